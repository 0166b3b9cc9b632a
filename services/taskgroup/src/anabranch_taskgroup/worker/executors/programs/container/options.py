"""The options of a container that an agent's declaration may set beyond the fields of every program. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from anabranch_taskgroup.worker.executors.programs.engine import ProgramRefused

PullPolicy = Literal["missing", "always", "never"]

_BOOLEANS = {"true": True, "false": False}
_USER = re.compile(r"[A-Za-z0-9_.-]+(:[A-Za-z0-9_.-]+)?")
_NETWORK = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_SIZE = re.compile(r"[1-9][0-9]*[kmg]?")
# They give a container the host's own interfaces, or those of a container that is not Anabranch's.
_REFUSED_NETWORKS = ("host", "container")


@dataclass(frozen=True, slots=True)
class ContainerOptions:
    """How a container is confined, and where its image comes from. The defaults are the strictest ones.

    Attributes:
        user: user and group in the container; the default is `nobody`, by number, because an image needs no
            `/etc/passwd`.
        network: a network of the engine, by name; `none` has the loopback interface only.
        is_read_only: True if the image's file system is read-only. `/tmp` and the folder of inputs and output are
            writable in any case.
        has_init: True for an init as process 1, which passes signals on and reaps zombies. Without one, a program
            that does not handle SIGTERM ends only at the end of the grace period. With one, an engine may report a
            command that does not exist as a plain failure.
        pids: maximum number of processes and threads.
        tmp_size: size of `/tmp`, which is in memory and counts towards the limit of memory.
        pull: when the image is pulled.
    """

    user: str = "65534:65534"
    network: str = "none"
    is_read_only: bool = True
    has_init: bool = False
    pids: int = 512
    tmp_size: str = "64m"
    pull: PullPolicy = "missing"


def read_options(options: Mapping[str, str]) -> ContainerOptions:
    """Parse the `options` of an agent's declaration.

    Raises:
        ProgramRefused: an option is unknown or has a wrong value.
    """
    unknown = sorted(set(options) - {"user", "network", "read_only", "init", "pids", "tmp_size", "pull"})
    if unknown:
        raise ProgramRefused(
            f"options: a container has no option {unknown[0]!r}; it has user, network, read_only, init, pids, "
            "tmp_size and pull"
        )
    default = ContainerOptions()
    return ContainerOptions(
        user=_matching(options, "user", default.user, _USER, "a user or user:group, by name or number"),
        network=_network(options.get("network", default.network)),
        is_read_only=_boolean(options, "read_only", default.is_read_only),
        has_init=_boolean(options, "init", default.has_init),
        pids=_count(options, "pids", default.pids),
        tmp_size=_matching(options, "tmp_size", default.tmp_size, _SIZE, "a size such as 64m"),
        pull=_pull(options.get("pull", default.pull)),
    )


def _matching(options: Mapping[str, str], name: str, default: str, form: re.Pattern[str], expected: str) -> str:
    value = options.get(name, default)
    if form.fullmatch(value) is None:
        raise ProgramRefused(f"options.{name}: {value!r} is not {expected}")
    return value


def _network(value: str) -> str:
    if value.partition(":")[0] in _REFUSED_NETWORKS:
        raise ProgramRefused(
            f"options.network: {value!r} shares the interfaces of the host or of another container; name a "
            "network of the engine, or none"
        )
    if _NETWORK.fullmatch(value) is None:
        raise ProgramRefused(f"options.network: {value!r} is not the name of a network")
    return value


def _boolean(options: Mapping[str, str], name: str, default: bool) -> bool:
    if name not in options:
        return default
    if options[name] not in _BOOLEANS:
        raise ProgramRefused(f"options.{name}: {options[name]!r} is not true or false")
    return _BOOLEANS[options[name]]


def _count(options: Mapping[str, str], name: str, default: int) -> int:
    value = options.get(name, str(default))
    if not value.isascii() or not value.isdigit() or int(value) < 1:
        raise ProgramRefused(f"options.{name}: {value!r} is not an integer of at least 1")
    return int(value)


def _pull(value: str) -> PullPolicy:
    for policy in get_args(PullPolicy):
        if value == policy:
            return policy  # type: ignore[no-any-return]
    raise ProgramRefused(f"options.pull: {value!r} is not missing, always or never")
