"""Filters over run views: which runs a list or a search returns, and their order. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from anabranch.core.project import DEFAULT_PROJECT
from anabranch.core.wire.run_view import RunView


@dataclass(frozen=True, slots=True)
class RunFilter:
    """Conditions that a run has to meet. None and empty conditions match every run.

    Attributes:
        labels: each `key:value`, or `key` for any value.
        since, until: the run was submitted at or after, before; seconds since the epoch.
        text: a part of the name, or the beginning of an id.
        visible_projects: the projects that the caller sees; None for all. A run whose project is not known yet
            matches only None.
        condition: a filter, as of `core.run_search`, which `matches` leaves out.
    """

    status: str | None = None
    name: str | None = None
    labels: tuple[str, ...] = ()
    session_id: str | None = None
    project: str | None = None
    retry_of: str | None = None
    since: float | None = None
    until: float | None = None
    text: str | None = None
    visible_projects: frozenset[str] | None = None
    condition: Any = None

    def matches(self, view: RunView) -> bool:
        """True if the run of a view meets all conditions."""
        submitted_at = view.submitted_at or 0.0
        return (
            (self.visible_projects is None or view.project in self.visible_projects)
            and self.status in (None, view.status)
            and self.name in (None, view.name)
            and all(_has_label(view, each) for each in self.labels)
            and self.session_id in (None, view.session_id)
            and self.project in (None, view.project or DEFAULT_PROJECT)
            and self.retry_of in (None, view.retry_of)
            and (self.since is None or submitted_at >= self.since)
            and (self.until is None or submitted_at < self.until)
            and (self.text is None or _has_text(view, self.text.casefold()))
        )


EVERY_RUN = RunFilter()


def list_order(view: RunView) -> tuple[float, str]:
    """Sort key of a run in a list, which has the highest first: its time, then its id."""
    return float(view.submitted_at or view.last_fact_at or 0.0), view.run_id


def _has_label(view: RunView, wanted: str) -> bool:
    """`wanted` is `key:value` or `key`. It is compared as a whole, because keys may have colons of their own."""
    return wanted in view.labels or any(wanted == f"{key}:{value}" for key, value in view.labels.items())


def _has_text(view: RunView, text: str) -> bool:
    ids = (view.run_id, view.request_id or "", view.session_id)
    return text in (view.name or "").casefold() or any(each.casefold().startswith(text) for each in ids)
