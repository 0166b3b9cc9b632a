"""Schemas of the records on the gateway's own topics: what callers did, and who is to be called."""

from __future__ import annotations

from contract.schemas import Schema, headed

_TEXT: Schema = {"type": "string"}
_TEXT_OR_NULL: Schema = {"type": ["string", "null"]}


def audit_record_schema() -> Schema:
    """What somebody did through a gateway, or was refused."""
    return headed(
        {
            "title": "AuditRecord",
            "description": (
                "Something that a caller of a gateway did, or was refused. Written in the background: a gateway "
                "that is killed may lose the last moment's."
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
                    "description": "A key, or the subject of a token; `anonymous` of an open gateway.",
                },
                "role": {"enum": ["viewer", "submitter", "operator"]},
                "project": {**_TEXT_OR_NULL, "description": "Whose run it was about; null where about none."},
                "action": {
                    **_TEXT,
                    "description": "`refused_calls` has in `detail` the number of refused calls without a record.",
                    "examples": ["submit", "cancel"],
                },
                "run_id": _TEXT_OR_NULL,
                "request_id": _TEXT_OR_NULL,
                "outcome": {"enum": ["done", "refused"]},
                "detail": {**_TEXT_OR_NULL, "description": "The code of a refusal, or what else there is to say."},
                "remote": {**_TEXT_OR_NULL, "description": "The caller's address."},
            },
        }
    )


def webhook_record_schema() -> Schema:
    """A subscription as gateways keep it; a null value ends it."""
    return headed(
        {
            "title": "WebhookRecord",
            "description": (
                "A subscription, under its id as key. The last record of an id counts, and one without a value "
                "ends it. It holds the secret that deliveries are signed with: let nobody else read this topic."
            ),
            "type": "object",
            "required": ["id", "kind", "target", "types", "project", "owner", "created_at"],
            "properties": {
                "id": _TEXT,
                "kind": {"enum": ["webhook", "channel"]},
                "target": {**_TEXT, "description": "A URL, or the name of a Redis channel."},
                "types": {"type": "array", "items": _TEXT, "description": "Event types; none are all."},
                "project": _TEXT,
                "owner": {**_TEXT, "description": "Who made it."},
                "created_at": {"type": "number", "description": "Seconds since the epoch."},
                "run_id": _TEXT_OR_NULL,
                "session_id": _TEXT_OR_NULL,
                "secret": _TEXT_OR_NULL,
            },
        }
    )
