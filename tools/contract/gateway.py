"""Schemas of the records on the gateway's own topics: the audit log and webhook subscriptions."""

from __future__ import annotations

from anabranch_gateway.webhooks.subscription import FORMATS, KINDS
from contract.schemas import Schema, headed

_TEXT: Schema = {"type": "string"}
_TEXT_OR_NULL: Schema = {"type": ["string", "null"]}


def audit_record_schema() -> Schema:
    """An action of a caller of a gateway, allowed or refused."""
    return headed(
        {
            "title": "AuditRecord",
            "description": (
                "An action of a caller of a gateway, allowed or refused. Written in the background: a gateway "
                "that is killed may lose the latest records."
            ),
            "type": "object",
            "required": [
                "time",
                "actor",
                "role",
                "project",
                "action",
                "run_id",
                "request_id",
                "outcome",
                "detail",
                "remote",
            ],
            "properties": {
                "time": {"type": "string", "format": "date-time"},
                "actor": {
                    **_TEXT,
                    "description": "Name of an API key or subject of a token; `anonymous` if the gateway is open.",
                },
                "role": {"enum": ["viewer", "submitter", "operator"]},
                "project": {**_TEXT_OR_NULL, "description": "Project of the action; null if it has none."},
                "action": {
                    **_TEXT,
                    "description": "`refused_calls`: `detail` has the number of refused calls without a record.",
                    "examples": ["submit", "cancel"],
                },
                "run_id": _TEXT_OR_NULL,
                "request_id": _TEXT_OR_NULL,
                "outcome": {"enum": ["done", "refused"]},
                "detail": {**_TEXT_OR_NULL, "description": "The code of a refusal, or further details."},
                "remote": {**_TEXT_OR_NULL, "description": "Address of the caller."},
            },
        }
    )


def definition_record_schema() -> Schema:
    """A version of a definition."""
    return headed(
        {
            "title": "DefinitionRecord",
            "description": "A version of a definition. Of several records of a version the first one is valid.",
            "type": "object",
            "required": ["project", "name", "version", "request"],
            "properties": {
                "project": _TEXT,
                "name": _TEXT,
                "version": _TEXT,
                "hash": {**_TEXT, "description": "SHA-256 of the content."},
                "description": _TEXT,
                "created_at": {"type": "number", "description": "Seconds since the epoch."},
                "input_schema": {"type": ["object", "null"], "description": "JSON Schema of the context."},
                "request": {"type": "object", "description": "The request, as it was sent."},
            },
        }
    )


def webhook_record_schema() -> Schema:
    """A subscription that was created through a gateway; a null value deletes it."""
    return headed(
        {
            "title": "WebhookRecord",
            "description": (
                "A subscription, with its id as key. The last record of an id is valid; a record without a value "
                "deletes the subscription. It has the secret that signs deliveries: restrict access to this topic."
            ),
            "type": "object",
            "required": ["id", "kind", "target", "types", "project", "owner", "created_at"],
            "properties": {
                "id": _TEXT,
                "kind": {"enum": list(KINDS)},
                "target": {**_TEXT, "description": "A URL, a Redis channel, or a service of the configuration."},
                "types": {"type": "array", "items": _TEXT, "description": "Event types; an empty list means all."},
                "project": _TEXT,
                "owner": {**_TEXT, "description": "Caller that created it."},
                "created_at": {"type": "number", "description": "Seconds since the epoch."},
                "run_id": _TEXT_OR_NULL,
                "session_id": _TEXT_OR_NULL,
                "secret": _TEXT_OR_NULL,
                "format": {"enum": list(FORMATS), "description": "Of a webhook's bodies; `events` without it."},
                "rules": {
                    "type": "array",
                    "items": {"type": "object"},
                    "description": "Rules of alerts, in place of the built-in ones.",
                },
            },
        }
    )
