"""What can be set, and from where: options, then environment variables, then one file, then the defaults.

One name each: `ANABRANCH_RESULT_TTL` in the environment is `result_ttl` in the file (YAML or TOML) and among
the overrides that the command's options become. Reads and checks values; connects to nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from anabranch.core.errors import Misconfigured
from anabranch.core.names import DEFAULT_PREFIX, Names
from anabranch.runtime import setting_values as values
from anabranch.runtime.logs import LogFormat
from anabranch.runtime.settings_sources import (
    CONFIG_VARIABLE,
    Entry,
    environment_entries,
    file_entries,
    misspelt,
    option_entries,
)

Topic = Literal["requests", "groups", "tasks", "runs", "events", "results", "dead_letters", "audit", "webhooks"]

DEFAULT_PARTITIONS: Mapping[str, int] = {
    "requests": 12,
    "groups": 12,
    "tasks": 24,
    "runs": 12,
    "events": 12,
    "results": 12,
    "dead_letters": 3,
    "audit": 3,
    "webhooks": 1,
}
DEFAULT_FILES = ("anabranch.yaml", "anabranch.yml", "anabranch.toml")


@dataclass(frozen=True, slots=True, repr=False)
class Settings:
    """All settings of a process. Durations are seconds, sizes bytes. `repr` never shows a secret."""

    brokers: str = "localhost:9092"
    redis_url: str = "redis://localhost:6379/0"
    redis_username: str | None = None
    redis_password: str | None = None
    redis_ca_file: str | None = None
    prefix: str = DEFAULT_PREFIX
    agents: tuple[str, ...] = ()
    concurrency: int = 64
    health_port: int | None = None
    gateway_host: str = "127.0.0.1"
    gateway_port: int = 0
    """0 has the system choose one."""
    gateway_auth: str = "auto"
    """`none` serves everybody everything, also beyond this machine."""
    gateway_keys: str | None = None
    """The file of API keys."""
    gateway_origins: tuple[str, ...] = ()
    """Origins of pages elsewhere that may call the gateway from a browser."""
    gateway_oidc_issuer: str | None = None
    gateway_oidc_audience: str | None = None
    gateway_oidc_jwks_url: str | None = None
    gateway_oidc_role_claim: str = "anabranch_role"
    gateway_oidc_project_claim: str = "anabranch_projects"
    kafka_properties: Mapping[str, str] = field(default_factory=dict)
    """Properties of every Kafka client, as librdkafka names them: `security.protocol`."""
    partitions: Mapping[str, int] = field(default_factory=dict)
    """Partition counts that were set, by topic (`dead_letters` with an underscore)."""
    create_topics: bool = True
    inline_limit: int = 64 * 1024
    request_limit: int = 1_000_000
    members_limit: int = 1_000_000
    result_ttl: float = 86_400.0
    loss_window: float = 5.0
    worker_lease: float = 6.0
    """A worker that showed no life for so long is dead. The same for all TaskGroups."""
    drain_seconds: float = 25.0
    stall_after: float = 120.0
    nudge_after: float = 30.0
    log_level: str = "INFO"
    log_format: LogFormat = "text"

    @classmethod
    def load(
        cls,
        environ: Mapping[str, str] | None = None,
        file: Path | None = None,
        overrides: Mapping[str, Any] | None = None,
    ) -> Settings:
        """Settings from all sources; an override of None counts as not given.

        Args:
            environ: instead of `os.environ`.
            file: instead of what `ANABRANCH_CONFIG` names, or an `anabranch.yaml` (`.yml`, `.toml`) in the
                current directory.
            overrides: what the command's options say, by field name.

        Raises:
            Misconfigured: a file that is missing or unreadable, an unknown name, or a value that does not fit.
        """
        environ = os.environ if environ is None else environ
        entries = file_entries(path, _NAMES) if (path := file or _chosen_file(environ)) else {}
        entries |= environment_entries(environ, _NAMES)
        entries |= option_entries(overrides or {}, _NAMES)
        return cls(**_parsed(entries))

    @staticmethod
    def misspelt(environ: Mapping[str, str]) -> dict[str, str]:
        """Variables of an environment that stand for nothing and look like a setting's -> that setting's."""
        return misspelt(environ, _NAMES)

    @property
    def names(self) -> Names:
        """The names on the servers, under this prefix."""
        return Names(self.prefix)

    def partitions_of(self, topic: str) -> int:
        """How many partitions a topic is created with; `topic` without prefix, `-` or `_` alike."""
        name = topic.replace("-", "_")
        return self.partitions.get(name, DEFAULT_PARTITIONS[name])

    def shown(self) -> dict[str, Any]:
        """Every setting, ready for people: secrets are masked."""
        return {each.name: _masked(each.name, getattr(self, each.name)) for each in fields(self)}

    def __repr__(self) -> str:
        return f"Settings({', '.join(f'{name}={value!r}' for name, value in self.shown().items())})"


_PARSERS: Mapping[str, Callable[[Any], Any]] = {
    "brokers": values.brokers,
    "redis_url": values.redis_url,
    "redis_username": values.text,
    "redis_password": values.text,
    "redis_ca_file": values.existing_file,
    "prefix": values.prefix,
    "agents": values.words,
    "concurrency": values.at_least(1),
    "health_port": values.port,
    "gateway_host": values.text,
    "gateway_port": values.port,
    "gateway_auth": values.one_of("auto", "none"),
    "gateway_keys": values.existing_file,
    "gateway_origins": values.words,
    "gateway_oidc_issuer": values.text,
    "gateway_oidc_audience": values.text,
    "gateway_oidc_jwks_url": values.text,
    "gateway_oidc_role_claim": values.text,
    "gateway_oidc_project_claim": values.text,
    "create_topics": values.yes_or_no,
    "inline_limit": values.between(1_024, 900_000),
    "request_limit": values.between(1_024, 1_000_000),
    "members_limit": values.at_least(1),
    "result_ttl": values.duration,
    "loss_window": values.duration,
    "worker_lease": values.duration_from(1.0),
    "drain_seconds": values.duration,
    "stall_after": values.duration,
    "nudge_after": values.duration,
    "log_level": values.log_level,
    "log_format": values.one_of("text", "json"),
}
_NAMES: frozenset[str] = frozenset(
    {*_PARSERS, "partitions", *(f"partitions_{topic}" for topic in DEFAULT_PARTITIONS)}
)


def _chosen_file(environ: Mapping[str, str]) -> Path | None:
    if named := environ.get(CONFIG_VARIABLE):
        return Path(named)
    return next((path for name in DEFAULT_FILES if (path := Path(name)).is_file()), None)


def _parsed(entries: Mapping[str, Entry]) -> dict[str, Any]:
    """Fields of Settings out of the entries that won."""
    result: dict[str, Any] = {}
    for name, entry in entries.items():
        if name.startswith("kafka."):
            result.setdefault("kafka_properties", {})[name.removeprefix("kafka.")] = _read(entry, values.text)
        elif name in _PARSERS:
            result[name] = _read(entry, _PARSERS[name])
    if counts := _partitions(entries):
        result["partitions"] = counts
    return result


def _partitions(entries: Mapping[str, Entry]) -> dict[str, int]:
    counts: dict[str, int] = {}
    if everywhere := entries.get("partitions"):
        counts = dict.fromkeys(DEFAULT_PARTITIONS, _read(everywhere, values.at_least(1)))
    for topic in DEFAULT_PARTITIONS:
        if entry := entries.get(f"partitions_{topic}"):
            counts[topic] = _read(entry, values.at_least(1))
    return counts


def _read(entry: Entry, parse: Callable[[Any], Any]) -> Any:
    try:
        return parse(entry.value)
    except ValueError as error:
        raise Misconfigured(entry.where, str(error)) from error


def _masked(name: str, value: Any) -> Any:
    if name == "redis_password":
        return None if value is None else "***"
    if name == "redis_url":
        return values.without_password(value)
    if name == "kafka_properties":
        return {each: values.shown_property(each, text) for each, text in value.items()}
    return value
