"""Schemas of documents without a model: the envelope, headers, and messages on Redis channels.

Each is built from the constants and models of the code that reads or writes the document.
"""

from __future__ import annotations

from typing import Any

from anabranch.core.errors import Code
from anabranch.core.request.models import Request
from anabranch.core.wire.cloudevents import SOURCE
from anabranch.core.wire.dead_letters import DISMISSED, MEMBER_FAILED, MEMBERS_OMITTED, REDRIVEN, WEBHOOK_FAILED
from anabranch.core.wire.results import RESULT_KINDS, ChannelMessage
from anabranch.runtime.ownership.dead_letter import REASON_BYTES
from contract.schemas import Schema, accepted, headed, promised

DEAD_LETTER_CODES = (MEMBER_FAILED, MEMBERS_OMITTED, WEBHOOK_FAILED, DISMISSED, REDRIVEN)

UNDECODABLE = "undecodable"
"""Code of a dead letter that cannot be decoded as a message."""

_TRACEPARENT: Schema = {
    "type": "string",
    "description": "W3C trace context of the request.",
    "examples": ["00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"],
}


def envelope_schema() -> Schema:
    """A request in the compatibility envelope: unknown fields are ignored."""
    request = _open(accepted(Request))
    definitions: dict[str, Schema] = request.pop("$defs")
    definitions = {name: _open(each) for name, each in definitions.items()}
    del request["$schema"]
    return headed(
        {
            "title": "Envelope",
            "description": (
                "The compatibility envelope around a request, accepted wherever a request is. Fields that a "
                "request does not have are ignored at every level, with one warning that lists them."
            ),
            "type": "object",
            "required": ["object"],
            "not": {"required": ["task_groups"]},
            "properties": {
                "key": {
                    "type": ["string", "null"],
                    "description": "`task_group:<id>`; the id is the request id.",
                    "examples": ["task_group:order-17"],
                },
                "action": {"enum": ["initialize", None], "description": "The only supported action."},
                "object": {"$ref": "#/$defs/Request"},
                "context": _envelope_context(),
            },
            "$defs": {"Request": request, **definitions},
        }
    )


def _envelope_context() -> Schema:
    values = {"type": ["object", "null"], "description": "The request's context; overrides `object.context`."}
    return {"type": ["object", "null"], "properties": {"context": values}}


def _open(schema: Schema) -> Schema:
    if "properties" not in schema:
        return schema
    return {name: value for name, value in schema.items() if name != "additionalProperties"}


def channel_message_schema() -> Schema:
    """The wake-up on the channel of a session's value."""
    schema = promised(ChannelMessage)
    schema["description"] += " The key with the name of the channel has the value."
    return schema


def cloud_event_headers_schema() -> Schema:
    """Headers of every record on the results topic."""
    return headed(
        {
            "title": "CloudEventHeaders",
            "description": "CloudEvents 1.0, Kafka binding in binary mode. Each header is UTF-8 text.",
            "type": "object",
            "required": ["ce_specversion", "ce_type", "ce_id", "ce_source", "ce_time", "content-type"],
            "properties": {
                "ce_specversion": {"const": "1.0"},
                "ce_type": {"enum": list(RESULT_KINDS), "description": "What happened."},
                "ce_id": _text("Identical in each repetition of a record: drop records whose id you have seen."),
                "ce_source": {"const": SOURCE},
                "ce_time": {**_text("RFC 3339, UTC."), "format": "date-time"},
                "ce_subject": _text("The run id; absent if a rejected request has none."),
                "content-type": {"const": "application/json"},
                "traceparent": _TRACEPARENT,
            },
        }
    )


def dead_letter_headers_schema() -> Schema:
    """Headers that a dead letter has in addition to those of the original."""
    return headed(
        {
            "title": "DeadLetterHeaders",
            "description": (
                "They follow the headers of the original record, which are unchanged, including repeated and null "
                "ones; key and value are those of the original, byte for byte."
            ),
            "type": "object",
            "required": [
                "anabranch_code",
                "anabranch_reason",
                "anabranch_origin",
                "anabranch_signature",
                "anabranch_id",
            ],
            "properties": {
                "anabranch_code": {
                    "enum": [UNDECODABLE, *(str(code) for code in Code), *DEAD_LETTER_CODES],
                    "description": (
                        f"`{UNDECODABLE}`, or the code of the first error of a rejected request. "
                        f"`{MEMBER_FAILED}`: the value is not an original record but describes the failed member; "
                        f"`{MEMBERS_OMITTED}`: the value has the number of failed members without a dead letter. "
                        f"`{WEBHOOK_FAILED}`: the value is an event that could not be delivered to a webhook. "
                        f"`{DISMISSED}`, `{REDRIVEN}`: a decision about the dead letter at the origin."
                    ),
                },
                "anabranch_reason": _text(
                    "The reason, for people; for a rejected request, the JSON list of its errors. "
                    f"Truncated after {REASON_BYTES:,} bytes."
                ),
                "anabranch_signature": {
                    **_text("Identical for failures of one kind."),
                    "pattern": "^[0-9a-f]{16}$",
                },
                "anabranch_id": _text("Identical in each repetition of a dead letter."),
                "anabranch_origin": {
                    **_text("Position of the original record: `<topic>/<partition>/<offset>`."),
                    "pattern": r"^[^/]+/\d+/\d+$",
                },
                "anabranch_project": _text(
                    "Project of the dead letter; only for rejected requests and undelivered webhook events. "
                    "A rejected request belongs to the project that it names, else to `default`."
                ),
                "anabranch_null": {
                    "const": "value",
                    "description": (
                        "Present if the original's value is null, as for a tombstone; the dead letter's is empty."
                    ),
                },
                "anabranch_bytes": {
                    **_text(
                        "Present if the original was too large and was truncated: size of its value in bytes."
                    ),
                    "pattern": r"^\d+$",
                },
            },
        }
    )


def request_headers_schema() -> Schema:
    """Headers that a producer may add to a request."""
    return headed(
        {
            "title": "RequestHeaders",
            "description": "All optional. Others are ignored, but kept if the request becomes a dead letter.",
            "type": "object",
            "properties": {"traceparent": _TRACEPARENT},
        }
    )


def _text(description: str) -> dict[str, Any]:
    return {"type": "string", "description": description}
