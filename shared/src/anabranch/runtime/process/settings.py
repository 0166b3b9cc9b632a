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
from anabranch.runtime.process import setting_values as values
from anabranch.runtime.process.logs import LogFormat
from anabranch.runtime.process.settings_sources import (
    CONFIG_VARIABLE,
    SettingEntry,
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
    """Bootstrap servers of Kafka, `host:port`, several with commas."""
    redis_url: str = "redis://localhost:6379/0"
    """`redis://`, `rediss://` or `unix://`."""
    redis_username: str | None = None
    """Beside the URL, or in place of what stands in it."""
    redis_password: str | None = None
    """Beside the URL, so that it stands in no command line."""
    redis_ca_file: str | None = None
    """Certificate authorities for `rediss://`; without it the system's."""
    url: str | None = None
    """A gateway that commands work through, instead of Kafka and Redis: `http://127.0.0.1:8321/`."""
    api_key: str | None = None
    """API key that commands send to that gateway, if it requires one."""
    prefix: str = DEFAULT_PREFIX
    """Of topics, consumer groups and private keys: two installations can share servers."""
    agents: tuple[str, ...] = ()
    """Modules with agents."""
    concurrency: int = 64
    """Members that run at once in one worker process."""
    health_port: int | None = None
    """Serves `/livez` and `/readyz`; 0 takes any free port, none serves nothing."""
    gateway_host: str = "127.0.0.1"
    """Where the gateway listens; without keys only on this machine."""
    gateway_port: int = 0
    """0 has the system choose one."""
    gateway_auth: str = "auto"
    """`none` serves everybody everything, also beyond this machine."""
    gateway_keys: str | None = None
    """The file of API keys."""
    gateway_origins: tuple[str, ...] = ()
    """Origins of pages elsewhere that may call the gateway from a browser."""
    gateway_allowed_hosts: tuple[str, ...] = ()
    """Allowed `Host` headers besides this machine's: names, `*.domain`, addresses, networks, `*`."""
    gateway_oidc_issuer: str | None = None
    """Who issues the tokens that the gateway takes."""
    gateway_oidc_audience: str | None = None
    """For whom they are issued."""
    gateway_oidc_jwks_url: str | None = None
    """Where the keys are that tokens are signed with."""
    gateway_oidc_role_claim: str = "anabranch_role"
    """The claim that has the caller's role."""
    gateway_oidc_project_claim: str = "anabranch_projects"
    """The claim that lists the caller's projects."""
    kafka_properties: Mapping[str, str] = field(default_factory=dict)
    """Properties of every Kafka client, as librdkafka names them: `security.protocol`."""
    partitions: Mapping[str, int] = field(default_factory=dict)
    """Partition counts that were set, by topic (`dead_letters` with an underscore)."""
    create_topics: bool = True
    """Services create topics that are missing."""
    inline_limit: int = 64 * 1024
    """Bytes of a value that stays inline; a larger one is handed on as a reference."""
    request_limit: int = 1_000_000
    """Bytes of a request."""
    members_limit: int = 1_000_000
    """Members of a request."""
    result_ttl: float = 86_400.0
    """Values and views are kept so long after a run's end."""
    loss_window: float = 5.0
    """How much of the last past Redis may forget."""
    worker_lease: float = 6.0
    """A worker that showed no life for so long is dead. The same for all TaskGroups."""
    drain_seconds: float = 25.0
    """Time to finish at a stop."""
    stall_after: float = 120.0
    """An owner with records to handle that decides nothing for so long is not live."""
    nudge_after: float = 30.0
    """A run that was silent for so long has its owner look again."""
    log_level: str = "INFO"
    """The least grave lines of the log."""
    log_format: LogFormat = "text"
    """`text` for people, `json` for one JSON object a line."""
    named: frozenset[str] = field(default=frozenset(), compare=False)
    """Not a setting: names of the settings set by an option, a variable or the file; the others have defaults."""

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
        given = option_entries(overrides or {}, _NAMES)
        if given.keys() & _SERVERS and "url" not in given:
            entries.pop("url", None)  # options override variables: --brokers overrides ANABRANCH_URL
        entries |= given
        return cls(**_parsed(entries), named=frozenset(entries))

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

    @property
    def secrets(self) -> frozenset[str]:
        """Secret values that are masked in logs, messages and tracebacks."""
        found = {self.redis_password or "", *values.passwords_in(self.redis_url)}
        return frozenset(found | values.secret_properties(self.kafka_properties)) - {""}

    def shown(self) -> dict[str, Any]:
        """Every setting, ready for people: secrets are masked."""
        shown = [each.name for each in fields(self) if each.name != "named"]
        return {name: _masked(name, getattr(self, name)) for name in shown}

    def __repr__(self) -> str:
        return f"Settings({', '.join(f'{name}={value!r}' for name, value in self.shown().items())})"


_PARSERS: Mapping[str, Callable[[Any], Any]] = {
    "brokers": values.brokers,
    "redis_url": values.redis_url,
    "redis_username": values.text,
    "redis_password": values.text,
    "redis_ca_file": values.existing_file,
    "url": values.http_url,
    "api_key": values.text,
    "prefix": values.prefix,
    "agents": values.words,
    "concurrency": values.at_least(1),
    "health_port": values.port,
    "gateway_host": values.text,
    "gateway_port": values.port,
    "gateway_auth": values.one_of("auto", "none"),
    "gateway_keys": values.existing_file,
    "gateway_origins": values.words,
    "gateway_allowed_hosts": values.words,
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
_SERVERS = frozenset({"brokers", "redis_url"})
_NAMES: frozenset[str] = frozenset(
    {*_PARSERS, "partitions", *(f"partitions_{topic}" for topic in DEFAULT_PARTITIONS)}
)


def servers_named(environ: Mapping[str, str]) -> bool:
    """True if the environment configures Kafka or Redis, by a variable or by its configuration file.

    Raises:
        Misconfigured: that file cannot be read.
    """
    named = set(environment_entries(environ, _NAMES))
    if path := environ.get(CONFIG_VARIABLE):
        named.update(file_entries(Path(path), _NAMES))
    return not _SERVERS.isdisjoint(named)


def _chosen_file(environ: Mapping[str, str]) -> Path | None:
    if named := environ.get(CONFIG_VARIABLE):
        return Path(named)
    return next((path for name in DEFAULT_FILES if (path := Path(name)).is_file()), None)


def _parsed(entries: Mapping[str, SettingEntry]) -> dict[str, Any]:
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


def _partitions(entries: Mapping[str, SettingEntry]) -> dict[str, int]:
    counts: dict[str, int] = {}
    if everywhere := entries.get("partitions"):
        counts = dict.fromkeys(DEFAULT_PARTITIONS, _read(everywhere, values.at_least(1)))
    for topic in DEFAULT_PARTITIONS:
        if entry := entries.get(f"partitions_{topic}"):
            counts[topic] = _read(entry, values.at_least(1))
    return counts


def _read(entry: SettingEntry, parse: Callable[[Any], Any]) -> Any:
    try:
        return parse(entry.value)
    except ValueError as error:
        raise Misconfigured(entry.where, str(error)) from error


def _masked(name: str, value: Any) -> Any:
    if name in ("redis_password", "api_key"):
        return None if value is None else "***"
    if name == "redis_url":
        return values.without_password(value)
    if name == "kafka_properties":
        return {each: values.shown_property(each, text) for each, text in value.items()}
    return value
