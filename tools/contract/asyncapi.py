"""The AsyncAPI 3.0 document: servers, topics and Redis channels, from the services' point of view.

Schemas are referenced by file. They are draft 2020-12. AsyncAPI reads them as its own superset of draft 07, which
ignores unknown keywords, so no schema format is given.
"""

from __future__ import annotations

from typing import Any

from anabranch import __version__
from anabranch.core.names import DEFAULT_PREFIX, session_key
from anabranch.runtime.process.settings import Settings
from contract.catalog import RESULT_MESSAGES, SCHEMAS, TOPICS, Topic
from contract.docstrings import markdown

Node = dict[str, Any]

_JSON = "application/json"
_BYTES = "application/octet-stream"
_KAFKA_BINDING = "0.5.0"


def asyncapi_document() -> Node:
    """The whole document."""
    return {
        "asyncapi": "3.0.0",
        "info": _info(),
        "defaultContentType": _JSON,
        "servers": _servers(),
        "channels": {_identifier(topic.name): _topic_channel(topic) for topic in TOPICS} | _redis_channels(),
        "operations": _operations(),
        "components": {
            "messages": _messages(),
            "parameters": {
                "prefix": {
                    "description": "The installation's prefix, set by `ANABRANCH_PREFIX`.",
                    "default": DEFAULT_PREFIX,
                }
            },
        },
    }


def _info() -> Node:
    return {
        "title": "Anabranch",
        "version": __version__,
        "description": (
            "Fans tasks out over Kafka and joins their results. Operations are from the services' point of view: "
            "they receive requests and send results. Channels tagged `internal` are the protocol between "
            "services: you may read them, but must not write to them."
        ),
        "license": {"name": "Apache-2.0"},
    }


def _servers() -> Node:
    return {
        "kafka": _server("kafka", "localhost:9092", "The brokers, set by `ANABRANCH_BROKERS`."),
        "redis": _server("redis", "localhost:6379", "The store and its channels, set by `ANABRANCH_REDIS_URL`."),
    }


def _server(protocol: str, default: str, description: str) -> Node:
    return {
        "host": "{address}",
        "protocol": protocol,
        "description": description,
        "variables": {"address": {"default": default}},
    }


# --- channels ------------------------------------------------------------------------------------


def _topic_channel(topic: Topic) -> Node:
    return {
        "address": f"{{prefix}}{topic.name}",
        "title": topic.name,
        "description": topic.summary,
        "servers": [{"$ref": "#/servers/kafka"}],
        "parameters": {"prefix": {"$ref": "#/components/parameters/prefix"}},
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in topic.messages},
        "tags": [{"name": "public" if topic.public else "internal"}],
        "bindings": {
            "kafka": {
                "partitions": Settings().partitions_of(topic.name),
                "topicConfiguration": _retention(topic.retention_seconds),
                "bindingVersion": _KAFKA_BINDING,
            }
        },
    }


def _retention(seconds: int | None) -> Node:
    if seconds is None:
        return {"cleanup.policy": ["compact"]}
    return {"cleanup.policy": ["delete"], "retention.ms": seconds * 1000}


def _redis_channels() -> Node:
    return {
        "values": _redis_channel(
            session_key("", "{result_key}").replace("{}", "{hash_tag}"),
            "Announces that a value of a session was written, under the key of the same name.",
            {
                "hash_tag": {
                    "description": "The session id in literal braces, which keep a session in one cluster slot.",
                    "examples": ["{order-17}"],
                },
                "result_key": {"description": "The result key."},
            },
            "ChannelMessage",
        ),
        "forwardedEvents": _redis_channel(
            "{channel}",
            "Lifecycle events, one by one, for subscribers. A subscriber that is not connected misses events.",
            {"channel": {"description": "The `channel` of the control record that created the subscription."}},
            "Event",
        ),
    }


def _redis_channel(address: str, description: str, parameters: Node, message: str) -> Node:
    return {
        "address": address,
        "description": description,
        "servers": [{"$ref": "#/servers/redis"}],
        "parameters": parameters,
        "messages": {message: {"$ref": f"#/components/messages/{message}"}},
        "tags": [{"name": "public"}],
    }


# --- operations ----------------------------------------------------------------------------------


def _operations() -> Node:
    operations: Node = {}
    for topic in TOPICS:
        if topic.receives:
            operations[f"receive{_title(topic.name)}"] = _operation("receive", topic)
        if topic.sends:
            operations[f"send{_title(topic.name)}"] = _operation("send", topic)
    for channel, summary in (
        ("values", "Announce a value of a session"),
        ("forwardedEvents", "Forward lifecycle events to subscribers"),
    ):
        operations[f"send{channel[0].upper()}{channel[1:]}"] = {
            "action": "send",
            "channel": {"$ref": f"#/channels/{channel}"},
            "summary": summary,
        }
    return operations


def _operation(action: str, topic: Topic) -> Node:
    channel = f"#/channels/{_identifier(topic.name)}"
    services = topic.readers if action == "receive" else topic.writers
    ours = ", ".join(name for name in services.split(", ") if name != "you")
    return {
        "action": action,
        "channel": {"$ref": channel},
        "summary": f"{'Read' if action == 'receive' else 'Written'} by {ours}",
        "messages": [{"$ref": f"{channel}/messages/{name}"} for name in topic.messages],
    }


# --- messages ------------------------------------------------------------------------------------


def _messages() -> Node:
    # Reversed: a message on several topics has the key of the first one.
    keys = {name: topic.key for topic in reversed(TOPICS) for name in topic.messages}
    special = {
        **{name: _result(kind, name, schema, text) for kind, (name, schema, text) in RESULT_MESSAGES.items()},
        "Subscription": _message("Subscription", "ControlRecord", "A subscription, forwarded from `requests`."),
        "DeadLetter": _dead_letter(),
    }
    names = dict.fromkeys(name for topic in TOPICS for name in topic.messages)
    built = {name: special.get(name) or _plain(name) for name in names}
    for name, message in built.items():
        message["bindings"] = _key_binding(keys[name])
    return built | {name: _plain(name) for name in ("ChannelMessage", "Event")}


def _plain(name: str) -> Node:
    schema = SCHEMAS[name].build()
    summary, _, detail = markdown(schema["description"]).partition("\n\n")
    message = _message(name, name, summary)
    if detail:
        message["description"] = detail
    if "/inner/" in SCHEMAS[name].path:
        message["contentType"] = _BYTES
    if name in ("Request", "Envelope", "ControlRecord"):
        message["headers"] = _file("RequestHeaders")
    return message


def _message(name: str, schema: str, summary: str) -> Node:
    return {"name": name, "title": name, "summary": summary, "contentType": _JSON, "payload": _file(schema)}


def _result(kind: str, name: str, schema: str, summary: str) -> Node:
    narrowed = {"type": "object", "properties": {"ce_type": {"const": kind}}}
    message = _message(name, schema, summary)
    return {**message, "name": kind, "headers": {"allOf": [_file("CloudEventHeaders"), narrowed]}}


def _dead_letter() -> Node:
    return {
        "name": "DeadLetter",
        "title": "DeadLetter",
        "summary": "The original record, byte for byte, with the reason in its headers.",
        "contentType": _BYTES,
        "headers": _file("DeadLetterHeaders"),
        "payload": {"description": "The value of the original record."},
    }


def _key_binding(key: str) -> Node:
    return {"kafka": {"key": {"type": "string", "description": key}, "bindingVersion": _KAFKA_BINDING}}


def _file(schema: str) -> Node:
    return {"$ref": f"./{SCHEMAS[schema].path}"}


def _title(topic: str) -> str:
    return "".join(part.capitalize() for part in topic.split("-"))


def _identifier(topic: str) -> str:
    title = _title(topic)
    return title[0].lower() + title[1:]
