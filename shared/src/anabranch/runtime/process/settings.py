"""All settings, read from options, then environment variables, then one file, then the defaults.

A setting has one name: the variable `ANABRANCH_RESULT_TTL`, the key `result_ttl` of the file (YAML or TOML) and
the override `result_ttl` that an option of the command becomes are the same setting. This module reads and checks
values; it opens no connection.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from anabranch.core.errors import Misconfigured
from anabranch.core.lanes import DEFAULT_POOL
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

if TYPE_CHECKING:
    from anabranch.core.request.configured_limits import ConfiguredLimits

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
ONE_PARTITION: frozenset[str] = frozenset({"definitions"})
"""Topics that have one partition whatever is set, because each reader needs all of it in one order."""
DEFAULT_FILES = ("anabranch.yaml", "anabranch.yml", "anabranch.toml")


@dataclass(frozen=True, slots=True, repr=False)
class Settings:
    """All settings of a process. Durations are seconds, sizes bytes. `repr` never shows a secret."""

    brokers: str = "localhost:9092"
    """Bootstrap servers of Kafka, `host:port`, several with commas."""
    redis_url: str = "redis://localhost:6379/0"
    """`redis://`, `rediss://` or `unix://`."""
    redis_username: str | None = None
    """User of Redis. Overrides the user in the URL."""
    redis_password: str | None = None
    """Password of Redis. Overrides the password in the URL, and keeps it out of command lines."""
    redis_ca_file: str | None = None
    """File of certificate authorities for `rediss://`; by default those of the system."""
    database_url: str | None = None
    """Database of the history, tasks and executions: `postgresql://user:password@host/name`, `sqlite:///file` or
    `sqlite://` (in the memory of the process). Without it there is no history beyond `result_ttl`."""
    url: str | None = None
    """A gateway that commands work through, instead of Kafka and Redis: `http://127.0.0.1:8321/`."""
    api_key: str | None = None
    """API key that commands send to that gateway, if it requires one."""
    prefix: str = DEFAULT_PREFIX
    """Prefix of topics, consumer groups and private keys: two installations can share servers."""
    agents: tuple[str, ...] = ()
    """Modules with agents."""
    agent_files: tuple[str, ...] = ()
    """Files (YAML or JSON) that declare agents which are programs: processes, containers, Kubernetes Jobs."""
    executors: tuple[str, ...] = ()
    """Kinds of programs that this worker runs: `process`, `container`, `kubernetes`. By default none."""
    executor_commands: tuple[str, ...] = ()
    """Programs that requests may start with the built-in agent `process`: names or paths with wildcards, `*` for
    any. By default none."""
    executor_images: tuple[str, ...] = ()
    """Images that requests may start with the built-in agents `container` and `kubernetes`: patterns such as
    `registry.example/acme/*`. By default none."""
    executor_namespaces: tuple[str, ...] = ()
    """Namespaces, besides that of `kubernetes_namespace`, in which programs may run as Jobs."""
    process_concurrency: int = 8
    """Maximum number of processes that one worker runs at once as agents."""
    container_concurrency: int = 16
    """Maximum number of containers that one worker runs at once."""
    container_socket: str | None = None
    """Socket of the container engine: `unix:///var/run/docker.sock`. By default that of `DOCKER_HOST`, else the
    usual one of Docker or Podman that exists."""
    container_auth_file: str | None = None
    """File with the credentials of image registries, in the form of Docker's `config.json`; read at each pull."""
    kubernetes_concurrency: int = 256
    """Maximum number of Jobs that one worker follows at once."""
    kubernetes_namespace: str | None = None
    """Namespace of Jobs that name none; by default that of the worker's pod."""
    kubernetes_kubeconfig: str | None = None
    """Kubeconfig file of the cluster that runs Jobs; by default the service account of the worker's pod."""
    kubernetes_context: str | None = None
    """Context of that file; by default its current one."""
    kubernetes_service_accounts: tuple[str, ...] = ()
    """Service accounts that programs may name. By default none: Jobs get no token."""
    kubernetes_owner: str | None = None
    """Object that owns the Jobs of the worker's namespace, so that they are removed with it:
    `apps/v1/Deployment/NAME`."""
    kubernetes_helper_image: str | None = None
    """Image with `/bin/sh` of the sidecar that hands over results of more than 4 KiB."""
    kubernetes_image_pull_timeout: float = 300.0
    """How long a Job may wait for an image that cannot be pulled, or a container that cannot be created."""
    kubernetes_job_ttl: float = 86_400.0
    """How long Kubernetes keeps a finished Job that no worker removes."""
    orphan_seconds: float = 30.0
    """How often workers look for containers and Jobs that no open member needs, and stop them."""
    concurrency: int = 64
    """Maximum number of members that run at once in one worker process."""
    max_concurrent_tasks: int = 100
    """Maximum number of tasks of the task registry that run at once, of all processes together."""
    max_concurrent_executions: int = 10
    """Maximum number of executions of `anabranch.execution` that run at once in an installation."""
    offers: str = ""
    """Resources and labels that a worker offers to tasks with `requires`:
    `cpu=4,memory=8Gi,labels=ssd,zone=eu`."""
    pool: str = DEFAULT_POOL
    """The pool of workers that a worker process belongs to: it runs the members of tasks with this pool only."""
    health_port: int | None = None
    """Port of `/livez`, `/readyz` and `/metrics`; 0 takes any free port, without it there is no health server."""
    gateway_host: str = "127.0.0.1"
    """Address on which the gateway listens; without keys it must be one of this machine."""
    gateway_port: int = 0
    """Port of the gateway; 0 takes any free port."""
    gateway_auth: str = "auto"
    """`none` disables authentication, also for callers from other machines."""
    gateway_keys: str | None = None
    """File of API keys."""
    gateway_origins: tuple[str, ...] = ()
    """Origins of web pages on other hosts that may call the gateway from a browser (CORS)."""
    gateway_allowed_hosts: tuple[str, ...] = ()
    """Allowed `Host` headers besides this machine's: names, `*.domain`, addresses, networks, `*`."""
    gateway_notify: str | None = None
    """File with the services for messages about alerts: a name and an Apprise URL each."""
    gateway_oidc_issuer: str | None = None
    """Issuer of the tokens that the gateway accepts."""
    gateway_oidc_audience: str | None = None
    """Audience that a token must have."""
    gateway_oidc_jwks_url: str | None = None
    """URL of the issuer's signing keys (JWKS)."""
    gateway_oidc_role_claim: str = "anabranch_role"
    """Claim of a token that has the caller's role."""
    gateway_oidc_project_claim: str = "anabranch_projects"
    """Claim of a token that lists the caller's projects."""
    kafka_properties: Mapping[str, str] = field(default_factory=dict)
    """Properties of every Kafka client, as librdkafka names them: `security.protocol`."""
    partitions: Mapping[str, int] = field(default_factory=dict)
    """Partition counts that were set, by topic (`dead_letters` with an underscore)."""
    replication_factor: int | None = None
    """Copies of each partition of topics that are created; by default as the broker is configured."""
    create_topics: bool = True
    """Services create missing topics: at their start, and those of levels of priority once they are in use."""
    inline_limit: int = 64 * 1024
    """Maximum bytes of a value in a record; of a larger value, records hold a reference to its pages in Redis."""
    request_limit: int = 1_000_000
    """Maximum bytes of a request."""
    members_limit: int = 1_000_000
    """Maximum number of members of a request."""
    limits: ConfiguredLimits | None = None
    """Rates, concurrency and breakers of agents and projects, whatever requests say: an object, or the name of a
    YAML file. The Agency applies them to runs that start."""
    result_ttl: float = 86_400.0
    """How long values and views are kept after the end of a run."""
    loss_window: float = 5.0
    """How old writes may be that Redis loses in a failover or restart; owners commit offsets this much later."""
    snapshot_idle: float = 600.0
    """Owners append a snapshot of a run that has had no records for this long: a takeover then reads the snapshot,
    and not the records before. 0 turns snapshots off."""
    snapshot_interval: float = 21_600.0
    """Owners append a snapshot of a run that works at least this often. Topics have to keep records for two
    intervals."""
    snapshot_bytes: int = 10_000_000
    """Owners append a snapshot of a run after so many bytes of its records."""
    worker_lease: float = 6.0
    """Time to live of a worker's liveness key: without the key, the worker counts as dead and its members are
    offered again. All TaskGroups must have the same value."""
    drain_seconds: float = 25.0
    """How long a stopping service waits for the work in progress."""
    stall_after: float = 120.0
    """A service that has records to handle and handles none for this long is reported as not live."""
    nudge_after: float = 30.0
    """The event manager nudges the owner of a run without events for this long, and the owner checks the run."""
    log_level: str = "INFO"
    """Minimum level of log lines."""
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
        """Load the settings from all sources; an override of None is ignored.

        Args:
            environ: environment variables; by default `os.environ`.
            file: the settings file; by default the one that `ANABRANCH_CONFIG` names, else `anabranch.yaml`
                (`.yml`, `.toml`) in the current directory.
            overrides: values of the command's options, by field name.

        Raises:
            Misconfigured: a file is missing or unreadable, a name is unknown, or a value is invalid.
        """
        environ = os.environ if environ is None else environ
        # Later sources override earlier ones: file, then environment, then options.
        entries = file_entries(path, _NAMES) if (path := file or _chosen_file(environ)) else {}
        entries |= environment_entries(environ, _NAMES)
        given = option_entries(overrides or {}, _NAMES)
        if given.keys() & _SERVERS and "url" not in given:
            entries.pop("url", None)  # options override variables: --brokers overrides ANABRANCH_URL
        entries |= given
        return cls(**_parsed(entries), named=frozenset(entries))

    @staticmethod
    def misspelt(environ: Mapping[str, str]) -> dict[str, str]:
        """Unknown variables of an environment that resemble the variable of a setting -> that variable."""
        return misspelt(environ, _NAMES)

    @property
    def names(self) -> Names:
        """The names on the servers, under this prefix."""
        return Names(self.prefix)

    def partitions_of(self, topic: str) -> int:
        """The partition count with which a topic is created; `topic` is its name without prefix, with `-` or
        `_`. Topics of pools and levels have that of `tasks`: each worker has to read some of each."""
        name = topic.replace("-", "_").partition(".")[0]
        return 1 if name in ONE_PARTITION else self.partitions.get(name, DEFAULT_PARTITIONS[name])

    @property
    def secrets(self) -> frozenset[str]:
        """Secret values that are masked in logs, messages and tracebacks."""
        urls = (self.redis_url, self.database_url or "")
        found = {self.redis_password or "", *(each for url in urls for each in values.passwords_in(url))}
        return frozenset(found | values.secret_properties(self.kafka_properties)) - {""}

    def shown(self) -> dict[str, Any]:
        """All settings for display, with masked secrets."""
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
    "database_url": values.database_url,
    "url": values.http_url,
    "api_key": values.text,
    "prefix": values.prefix,
    "agents": values.words,
    "agent_files": values.words,
    "executors": values.executors,
    "executor_commands": values.words,
    "executor_images": values.words,
    "executor_namespaces": values.words,
    "process_concurrency": values.at_least(1),
    "container_concurrency": values.at_least(1),
    "container_socket": values.text,
    "container_auth_file": values.text,
    "kubernetes_concurrency": values.at_least(1),
    "kubernetes_namespace": values.text,
    "kubernetes_kubeconfig": values.text,
    "kubernetes_context": values.text,
    "kubernetes_service_accounts": values.words,
    "kubernetes_owner": values.text,
    "kubernetes_helper_image": values.text,
    "kubernetes_image_pull_timeout": values.duration_from(0.0),
    "kubernetes_job_ttl": values.duration_from(60.0),
    "orphan_seconds": values.duration_from(1.0),
    "concurrency": values.at_least(1),
    "max_concurrent_tasks": values.at_least(1),
    "max_concurrent_executions": values.at_least(1),
    "offers": values.offers,
    "pool": values.pool,
    "health_port": values.port,
    "gateway_host": values.text,
    "gateway_port": values.port,
    "gateway_auth": values.one_of("auto", "none"),
    "gateway_keys": values.existing_file,
    "gateway_origins": values.words,
    "gateway_allowed_hosts": values.words,
    "gateway_notify": values.existing_file,
    "gateway_oidc_issuer": values.text,
    "gateway_oidc_audience": values.text,
    "gateway_oidc_jwks_url": values.text,
    "gateway_oidc_role_claim": values.text,
    "gateway_oidc_project_claim": values.text,
    "replication_factor": values.at_least(1),
    "create_topics": values.boolean,
    "inline_limit": values.between(1_024, 900_000),
    "request_limit": values.between(1_024, 1_000_000),
    "members_limit": values.at_least(1),
    "limits": values.limits,
    "result_ttl": values.duration,
    "loss_window": values.duration,
    "snapshot_idle": values.duration,
    "snapshot_interval": values.duration_from(1.0),
    "snapshot_bytes": values.at_least(1_000),
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
    """Parse entries to fields of Settings."""
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
    if name in ("redis_url", "database_url"):
        return None if value is None else values.without_password(value)
    if name == "kafka_properties":
        return {each: values.shown_property(each, text) for each, text in value.items()}
    return value
