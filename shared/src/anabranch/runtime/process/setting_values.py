"""Parses and masks single values of settings. Each parser raises ValueError with the expected form.

Parsers accept text, from environment variables, and typed values, from a file or an option.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit, urlunsplit

from anabranch.core.durations import parse_duration
from anabranch.core.lanes import pool_problem
from anabranch.core.names import Names
from anabranch.core.redis_urls import SCHEMES, url_problem
from anabranch.core.requirements import parse_offers, read_labels

MASK = "***"
PROGRAM_KINDS = ("process", "container", "kubernetes")
_BROKER = re.compile(r"(?:[A-Za-z_]+://)?(?:\[[0-9A-Fa-f:.]+\]|[^\s:/\[\]]+)(?::(\d{1,5}))?")
_SECRET_WORDS = ("password", "secret", "key", "token", "jaas", "pem", "config")
_TRUE = ("1", "true", "yes", "on")
_FALSE = ("0", "false", "no", "off")


def text(value: Any) -> str:
    """Parse a string; numbers and booleans become text as in a properties file."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (str, int, float)):
        return str(value)
    raise ValueError(f"must be text, not {type(value).__name__}")


def offers(value: Any) -> str:
    """Parse what a worker offers: `cpu=4,memory=8Gi,labels=ssd`, or an object with these fields."""
    if isinstance(value, Mapping):
        labels = read_labels(value.get("labels") or {})
        parts = [f"{name}={amount}" for name, amount in value.items() if name != "labels"]
        parts += ["labels=" + ";".join(f"{name}={each}" for name, each in labels.items())] if labels else []
        value = ",".join(parts)
    found = text(value)
    parse_offers(found)
    return found


def words(value: Any) -> tuple[str, ...]:
    """Parse a list of names, or names separated by commas."""
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, (list, tuple)) or not all(isinstance(part, str) for part in parts):
        raise ValueError("must be a list of names, or names separated by commas")
    return tuple(word for part in parts for each in part.split(",") if (word := each.strip()))


def executors(value: Any) -> tuple[str, ...]:
    """Parse kinds of programs that a worker runs, each once."""
    found = words(value)
    for each in found:
        if each not in PROGRAM_KINDS:
            raise ValueError(f"{each!r} is not one of {', '.join(PROGRAM_KINDS)}")
    return tuple(dict.fromkeys(found))


def brokers(value: Any) -> str:
    """Parse broker addresses, `host:port`, separated by commas."""
    hosts = words(value)
    if not hosts:
        raise ValueError("is empty; write host:port, separated by commas")
    for host in hosts:
        found = _BROKER.fullmatch(host)
        if found is None or not 0 < int(found[1] or 1) <= 65_535:
            raise ValueError(f"{host!r} is not a broker address; write host:port, separated by commas")
    return ",".join(hosts)


def redis_url(value: Any) -> str:
    """Parse a `redis://`, `rediss://` (TLS) or `unix://` URL."""
    url = text(value)
    if _is_ambiguous(url):
        raise ValueError(
            "has an @, # or ? in the user or password: percent-encode it, or use the setting redis_password"
        )
    if urlsplit(url).scheme not in SCHEMES:
        raise ValueError(f"{without_password(url)!r} is not a Redis URL; write redis://host:6379/0, or rediss://")
    if (problem := url_problem(url)) is not None:
        raise ValueError(problem)
    return url


def database_url(value: Any) -> str:
    """Parse a `postgresql://` or `sqlite://` URL."""
    url = text(value)
    if _is_ambiguous(url) and urlsplit(url).scheme != "sqlite":
        raise ValueError("has an @, # or ? in the user or password: percent-encode it")
    if urlsplit(url).scheme not in ("postgresql", "postgres", "sqlite"):
        shown = without_password(url)
        raise ValueError(f"{shown!r} is not a database URL; write postgresql://host/name or sqlite:///file")
    return url


def http_url(value: Any) -> str:
    """Parse an `http://` or `https://` URL without user, query and fragment; the result ends with a slash."""
    url = text(value)
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("is not the URL of a gateway; write http://host:port/, or https://")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ValueError("has a user, a query or a fragment; write http://host:port/, and the key as api_key")
    _ = parts.port  # raises if the port is not a number
    return url.rstrip("/") + "/"


def prefix(value: Any) -> str:
    """Parse a prefix that `Names` accepts."""
    return Names(text(value)).prefix


def pool(value: Any) -> str:
    """Parse the name of a pool of workers."""
    name = text(value)
    if (problem := pool_problem(name)) is not None:
        raise ValueError(problem)
    return name


def existing_file(value: Any) -> str:
    """Parse the path of an existing file."""
    path = text(value)
    if not Path(path).is_file():
        raise ValueError(f"there is no file {path!r}")
    return path


def limits(value: Any) -> Any:
    """Parse limits of agents and projects, see `configured_limits`."""
    # Imported for installations that have limits only: its models take a while to import.
    from anabranch.runtime.process.configured_limits import parse_limits

    return parse_limits(value)


def duration(value: Any) -> float:
    """Parse a duration: seconds, or text such as `30s`."""
    return parse_duration(value)


def duration_from(lowest: float) -> Callable[[Any], float]:
    """Make a parser of durations of `lowest` seconds or more."""

    def read(value: Any) -> float:
        seconds = parse_duration(value)
        if seconds < lowest:
            raise ValueError(f"{value!r} is shorter than {lowest:g} s")
        return seconds

    return read


def at_least(lowest: int) -> Callable[[Any], int]:
    """Make a parser of integers of `lowest` or more."""
    return lambda value: _integer(value, lowest, None)


def between(lowest: int, highest: int) -> Callable[[Any], int]:
    """Make a parser of integers in a closed range."""
    return lambda value: _integer(value, lowest, highest)


def port(value: Any) -> int:
    """Parse a TCP port; the system chooses one for 0."""
    return _integer(value, 0, 65_535)


def boolean(value: Any) -> bool:
    """Parse a boolean: true or false, yes or no, on or off, 1 or 0."""
    if isinstance(value, bool):
        return value
    word = str(value).strip().lower()
    if word not in _TRUE + _FALSE:
        raise ValueError(f"{value!r} is neither true nor false")
    return word in _TRUE


def log_level(value: Any) -> str:
    """Parse the name of a level of `logging`, in upper or lower case."""
    return one_of(*sorted(logging.getLevelNamesMapping(), key=lambda name: name.lower()))(text(value).upper())


def one_of(*choices: str) -> Callable[[Any], str]:
    """Make a parser that accepts one of these words."""

    def read(value: Any) -> str:
        if value not in choices:
            raise ValueError(f"{value!r} is not one of {', '.join(choices)}")
        return str(value)

    return read


def without_password(url: str) -> str:
    """Mask the password of a URL, and its query, which may contain a password too."""
    parts = urlsplit(url)
    if _is_ambiguous(url):
        return f"{parts.scheme}://{MASK}"
    user, at, host = parts.netloc.rpartition("@")
    name, colon, _ = user.partition(":")
    shown = f"{name}{colon and ':' + MASK}{at}{host}"
    return urlunsplit((parts.scheme, shown, parts.path, MASK if parts.query else "", ""))


def passwords_in(url: str) -> set[str]:
    """The secrets in a URL: its password and the values of its query, percent-encoded and decoded."""
    parts = urlsplit(url)
    user = parts.netloc.rpartition("@")[0]
    found = {user.partition(":")[2], *(value for _, value in parse_qsl(parts.query))}
    return found | {unquote(each) for each in found}


def _is_ambiguous(url: str) -> bool:
    """True if a part of the password may have been parsed as path, query or fragment: its /, ? or # was not
    percent-encoded."""
    parts = urlsplit(url)
    return parts.netloc != "" and "@" in f"{parts.path}{parts.query}{parts.fragment}"


def shown_property(name: str, value: str) -> str:
    """The value of a Kafka client's property, masked if the name contains one of _SECRET_WORDS."""
    return MASK if any(word in name for word in _SECRET_WORDS) else value


def secret_properties(properties: Mapping[str, str]) -> set[str]:
    """The values of a Kafka client's properties that are masked."""
    return {value for name, value in properties.items() if shown_property(name, value) == MASK}


def _integer(value: Any, lowest: int, highest: int | None) -> int:
    try:
        number = int(value) if isinstance(value, str) else value
    except ValueError:
        number = None
    if isinstance(number, bool) or not isinstance(number, int):
        raise ValueError(f"{value!r} is not an integer")
    if number < lowest or (highest is not None and number > highest):
        wanted = f"{lowest} or more" if highest is None else f"{lowest} to {highest}"
        raise ValueError(f"{number} is out of range: {wanted}")
    return number
