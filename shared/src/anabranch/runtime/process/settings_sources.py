"""The places settings come from, each brought to one form: name -> entry, with aliases resolved.

Knows files, variables and spellings, not what a setting means. An unknown name in the file is refused with
the nearest known one. An unknown variable is not: orchestrators put variables of their own beside ours, as
Kubernetes does for a service that is called `anabranch-kafka`.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from anabranch.core.errors import Misconfigured

VARIABLE_PREFIX = "ANABRANCH_"
CONFIG_VARIABLE = "ANABRANCH_CONFIG"

MISSPELT = 0.8
"""So like a setting's name must a variable's be to count as misspelt, of 1 for the same."""

_ALIASES = {"bootstrap_servers": "brokers"}
_KAFKA = "kafka_"
_SERVICE_LINK = re.compile(r"KAFKA_(SERVICE_HOST|SERVICE_PORT(_.*)?|PORT(_\d+_(TCP|UDP).*)?)")
"""What Kubernetes sets for a service named `anabranch-kafka`: no properties of a Kafka client."""


@dataclass(frozen=True, slots=True)
class SettingEntry:
    """A value as it was written, and where: the variable, the file's name and key, or the option."""

    value: Any
    where: str


def environment_entries(environ: Mapping[str, str], known: Collection[str]) -> dict[str, SettingEntry]:
    """Entries of the environment; an empty variable counts as not set."""
    found: dict[str, SettingEntry] = {}
    for variable, value in environ.items():
        suffix = variable.removeprefix(VARIABLE_PREFIX)
        if suffix == variable or not value or _SERVICE_LINK.fullmatch(suffix):
            continue
        if name := _canonical(suffix.lower(), known):
            _add(found, name, SettingEntry(value, variable))
    return found


def misspelt(environ: Mapping[str, str], known: Collection[str]) -> dict[str, str]:
    """Variables that stand for nothing and look like a setting -> the variable that was meant, perhaps."""
    spelt = [*known, *_ALIASES, CONFIG_VARIABLE.removeprefix(VARIABLE_PREFIX).lower()]
    found: dict[str, str] = {}
    for variable in environ:
        name = variable.removeprefix(VARIABLE_PREFIX).lower()
        if not variable.startswith(VARIABLE_PREFIX) or name in spelt or _canonical(name, known):
            continue
        if close := difflib.get_close_matches(name, spelt, n=1, cutoff=MISSPELT):
            found[variable] = VARIABLE_PREFIX + close[0].upper()
    return found


def file_entries(path: Path, known: Collection[str]) -> dict[str, SettingEntry]:
    """Entries of a YAML or TOML file, told apart by its ending; a null counts as not set.

    Raises:
        Misconfigured: it is missing, unreadable, no mapping, or has an unknown name.
    """
    found: dict[str, SettingEntry] = {}
    for key, value in _document(path).items():
        name = _canonical(str(key), known)
        if name is None:
            raise Misconfigured(f"{path}: {key}", "there is no such setting", _nearest(str(key), known))
        if value is not None:
            _add(found, name, SettingEntry(value, f"{path}: {key}"))
    return found


def option_entries(overrides: Mapping[str, Any], known: Collection[str]) -> dict[str, SettingEntry]:
    """Entries of the command's options; None counts as not given."""
    found: dict[str, SettingEntry] = {}
    for key, value in overrides.items():
        name = _canonical(key, known)
        if name is None:
            raise Misconfigured(_option(key), "there is no such setting", _nearest(key, known))
        if value is not None and value != ():
            _add(found, name, SettingEntry(value, _option(key)))
    return found


def _add(found: dict[str, SettingEntry], name: str, entry: SettingEntry) -> None:
    other = found.get(name)
    if other is not None and str(other.value) != str(entry.value):
        raise Misconfigured(entry.where, f"says something else than {other.where}", "keep one of the two")
    found[name] = entry


def _canonical(name: str, known: Collection[str]) -> str | None:
    """The setting that a name stands for, `kafka.<property>` for a property; None for an unknown one."""
    name = _ALIASES.get(name, name)
    if name in known:
        return name
    if name.startswith(_KAFKA) and len(name) > len(_KAFKA):
        return f"kafka.{name.removeprefix(_KAFKA).replace('_', '.')}"
    return None


def _nearest(name: str, known: Collection[str]) -> str:
    close = difflib.get_close_matches(name.lower().replace("-", "_"), [*known, *_ALIASES], n=1)
    return f"did you mean {close[0]}?" if close else "known are: " + ", ".join(sorted(known))


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")


def _without_text(error: yaml.YAMLError) -> str:
    """What is wrong and where, without the line itself: it may hold a password."""
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        return type(error).__name__
    mark = error.problem_mark
    return f"{error.problem} in line {mark.line + 1}, column {mark.column + 1}"


def _document(path: Path) -> dict[Any, Any]:
    try:
        text = path.read_text(encoding="utf-8")
        document = tomllib.loads(text) if path.suffix == ".toml" else yaml.safe_load(text)
    except OSError as error:
        raise Misconfigured(
            str(path), f"cannot be read: {error.strerror}", f"correct the path, also in {CONFIG_VARIABLE}"
        ) from error
    except yaml.YAMLError as error:
        raise Misconfigured(str(path), f"is not well-formed: {_without_text(error)}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Misconfigured(str(path), f"is not well-formed: {error}") from error
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise Misconfigured(str(path), "holds no mapping of settings", "write lines such as `brokers: host:9092`")
    return document
