"""Messages about alerts to people, through the services of a configuration file (Apprise).

A subscription names a service; its URL, which often has a token in it, is only in the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from anabranch.core.errors import Misconfigured, RequestRefused, ServerUnavailable
from anabranch.core.names import name_problem
from anabranch.runtime.process.extras import needs_extra
from anabranch.sdk.request_file import read_document

SETTING = "gateway_notify"


class Service(Protocol):
    """What sends one message; Apprise's own object."""

    def notify(self, body: str, title: str) -> object:
        """False in a boolean context if the message was not accepted."""


class Notifications:
    """The services by name. Thread-safe."""

    def __init__(self, services: Mapping[str, Service]) -> None:
        self._services = services

    @property
    def names(self) -> list[str]:
        """The names that subscriptions may use."""
        return sorted(self._services)

    def send(self, name: str, title: str, text: str) -> None:
        """Send a message. Raises ServerUnavailable: it was not accepted, or the file has no such service."""
        service = self._services.get(name)
        if service is None:
            known = ", ".join(self.names) or "none"
            raise ServerUnavailable(
                "the service for notifications", name, "the configuration has no such service", f"it has {known}"
            )
        if not service.notify(body=text, title=title):
            hint = "the gateway's log has the service's answer"
            raise ServerUnavailable(
                "the service for notifications", name, "the service did not accept the message", hint
            )


def read_notifications(path: str | None) -> Notifications:
    """The services of a YAML or JSON file, `{name: URL}` or `{name: [URL, ...]}`; none without a path.

    Raises:
        Misconfigured: the file cannot be read, a URL is not one of Apprise's, or Apprise is not installed.
    """
    if path is None:
        return Notifications({})
    with needs_extra("alerts", SETTING):
        import apprise
    try:
        document = read_document(Path(path))
    except RequestRefused as refused:
        raise _misconfigured(path, "", str(refused.errors[0].message)) from None
    if not isinstance(document, dict) or not document:
        raise _misconfigured(path, "", "must be an object of names and URLs: {operators: 'mailto://...'}")
    services: dict[str, Service] = {}
    for name, urls in document.items():
        if (problem := name_problem(name)) is not None:
            raise _misconfigured(path, name, problem)
        found = urls if isinstance(urls, list) else [urls]
        service = apprise.Apprise()
        for number, url in enumerate(found):
            # Never named in an error: it may have a token.
            if not isinstance(url, str) or not service.add(url):
                raise _misconfigured(
                    path, name, f"URL {number + 1} is not the URL of a service that Apprise knows"
                )
        if not found:
            raise _misconfigured(path, name, "has no URL")
        services[name] = service
    return Notifications(services)


def _misconfigured(path: str, name: str, problem: str) -> Misconfigured:
    where = f"{path} /{name}" if name else path
    return Misconfigured(SETTING, f"{where}: {problem}", "see docs/alerts.md for the form of the file")
