"""Reads the sources of settings (variables, a file, options) into one form: name -> entry, with aliases resolved.

Handles files, variables and spellings, not the meaning of a setting. An unknown name in the file is refused, with
a similar known name as hint. An unknown variable is ignored, because orchestrators add variables with the same
prefix: Kubernetes does so for a service named `anabranch-kafka`.
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
"""Minimum similarity of an unknown variable to a setting's name, 1 for equal, to count as misspelt."""

_ALIASES = {"bootstrap_servers": "brokers"}
_KAFKA = "kafka_"
_SERVICE_LINK = re.compile(r"KAFKA_(SERVICE_HOST|SERVICE_PORT(_.*)?|PORT(_\d+_(TCP|UDP).*)?)")
"""Variables that Kubernetes sets for a service named `anabranch-kafka`, not properties of a Kafka client."""


@dataclass(frozen=True, slots=True)
class SettingEntry:
    """An unparsed value and its source: the variable, the file's name and key, or the option."""

    value: Any
    where: str


def environment_entries(environ: Mapping[str, str], known: Collection[str]) -> dict[str, SettingEntry]:
    """Entries of the environment; an empty variable counts as not set."""
    found: dict[str, SettingEntry] = {}
    for variable, value in environ.items():
        suffix = variable.removeprefix(VARIABLE_PREFIX)
        # Compose files and Kubernetes manifests often pass a variable that is not set as an empty one.
        if suffix == variable or not value or _SERVICE_LINK.fullmatch(suffix):
            continue
        if name := _canonical(suffix.lower(), known):
            _add(found, name, SettingEntry(value, variable))
    return found


def misspelt(environ: Mapping[str, str], known: Collection[str]) -> dict[str, str]:
    """Unknown variables that resemble the variable of a setting -> that variable."""
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
    """Entries of a settings file: TOML if its name ends in `.toml`, else YAML. A null counts as not set.

    Raises:
        Misconfigured: the file is missing, unreadable, not a mapping, or has an unknown name.
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
        raise Misconfigured(entry.where, f"has another value than {other.where}", "keep one of the two")
    found[name] = entry


def _canonical(name: str, known: Collection[str]) -> str | None:
    """The name of a setting without aliases, `kafka.<property>` for a Kafka property; None for an unknown name."""
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
    """The problem and its line number, without the text of the line: it may contain a password."""
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
        # `from None`, because the text of the YAML error quotes the line.
        raise Misconfigured(str(path), f"is not well-formed: {_without_text(error)}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Misconfigured(str(path), f"is not well-formed: {error}") from error
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise Misconfigured(str(path), "is not a mapping of settings", "write lines such as `brokers: host:9092`")
    return document
