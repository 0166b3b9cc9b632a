"""Checks the docs against the code: diagrams, tables and links. `system/test_docs.py` runs their code blocks."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest
from doc_blocks import without_blocks
from source_tree import ROOT, shown, tracked_files

from anabranch.core.errors import Code
from anabranch.core.names import Names
from anabranch.core.request.models import Request, TaskGroup, TaskSpec
from anabranch.core.wire.events import EVENT_TYPES
from anabranch.runtime.process.settings import Settings
from anabranch_taskgroup.session.states import mermaid

DOCS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), ROOT / "tests" / "data" / "README.md"]
RECORDS = sorted((ROOT / "docs" / "adr").glob("0*.md"))
SECTIONS = ["Context", "Decision", "Rejected", "Consequences", "Violated by"]

_LINK = re.compile(r"\]\(([^)\s]+)\)")


def text_of(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def first_cells(path: str) -> set[str]:
    """All names in backticks in the first cells of all table rows."""
    rows = (line for line in text_of(path).splitlines() if line.startswith("|"))
    return {name for row in rows for name in re.findall(r"`([^`]+)`", row.split("|")[1])}


def test_the_task_state_diagram_matches_the_state_table() -> None:
    assert f"```mermaid\n{mermaid()}\n```" in text_of("docs/architecture.md")


def test_tests_of_the_failure_model_exist_and_chaos_tests_are_marked() -> None:
    named = re.findall(
        r"`(?:tests/)?((?:\w+/)+test_\w+\.py)(?:::(\w+))?`( \(chaos\))?", text_of("docs/failure-model.md")
    )

    assert len(named) > 30
    for path, test, chaos in named:
        found = _test_of(path, test)
        assert found is not None, f"{path} has no {test}"
        if test:
            assert ("chaos" in found) is bool(chaos), f"{test}: the document and the test differ about (chaos)"


def test_each_rule_of_control_flow_has_a_test_that_exists() -> None:
    rows = re.findall(r"^\| (.+) \| `(\S+)::(\w+)` \|$", text_of("docs/control-flow-rules.md"), re.MULTILINE)
    lines = [line for line in text_of("docs/control-flow-rules.md").splitlines() if line.startswith("| ")]

    assert len(rows) > 70
    assert len(lines) - len(rows) == text_of("docs/control-flow-rules.md").count("| rule | test |")
    assert [(path, test) for _, path, test in rows if _test_of(path, test) is None] == []
    assert len({rule for rule, _, _ in rows}) == len(rows)


def _test_of(path: str, test: str) -> str | None:
    """The decorators of a test, and the marks of its module; None if there is no such test."""
    source = text_of(f"tests/{path}")
    if not test:
        return ""
    found = re.search(rf"((?:^@pytest.*\n)*)^(?:async )?def {test}\(", source, re.MULTILINE)
    marks = re.search(r"^pytestmark = (?:\[.*?^\]|.*?$)", source, re.MULTILINE | re.DOTALL)
    return None if found is None else found[1] + (marks[0] if marks else "")


@pytest.mark.parametrize("path", [pytest.param(path, id=shown(path)) for path in DOCS])
def test_links_resolve(path: Path) -> None:
    lost = [
        link
        for link in _LINK.findall(without_blocks(path.read_text(encoding="utf-8")))
        if not link.startswith(("http:", "https:")) and not _leads_somewhere(path, link)
    ]

    assert lost == []


def _leads_somewhere(path: Path, link: str) -> bool:
    file, _, anchor = link.partition("#")
    target = path.parent / file if file else path
    return target.exists() and (not anchor or anchor in set(_anchors(target)))


def _anchors(path: Path) -> Iterator[str]:
    """Headings in the form of GitHub's anchors."""
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            heading = line.lstrip("#").strip().lower()
            yield re.sub(r"[^\w\- ]", "", heading).replace(" ", "-")


@pytest.mark.parametrize("model", [Request, TaskGroup, TaskSpec])
def test_every_field_of_a_request_is_described(model: type[Request | TaskGroup | TaskSpec]) -> None:
    fields_of_model = {field.alias or name for name, field in model.model_fields.items()}

    assert fields_of_model - first_cells("docs/requests.md") == set()


def test_every_code_and_event_is_described() -> None:
    described = first_cells("docs/requests.md")

    assert {str(code) for code in Code} - described == set()
    assert set(EVENT_TYPES) - described == set()


def test_every_setting_topic_and_consumer_group_is_described() -> None:
    described = first_cells("docs/operations.md")
    names = Names()
    groups = {names.agency_requests, names.agency_runs, names.taskgroup_groups, names.taskgroup_tasks}
    on_kafka = {name.removeprefix(names.prefix) for name in (*names.topics, *groups, names.eventmanager)}

    assert {field.name for field in fields(Settings)} - described == {"kafka_properties", "named"}
    assert "kafka_…" in described
    assert on_kafka - described == set()


@pytest.mark.parametrize("path", [pytest.param(path, id=path.stem) for path in RECORDS])
def test_decision_records_have_their_sections_and_are_listed(path: Path) -> None:
    headings = re.findall(r"^## (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)

    assert headings == SECTIONS
    assert f"]({path.name})" in text_of("docs/adr/README.md")


def test_the_files_that_contributing_names_exist() -> None:
    tracked = [str(path.relative_to(ROOT)) for path in tracked_files()]
    named = re.findall(r"`([\w/.…-]*\w\.(?:py|md|toml|yaml))`", text_of("CONTRIBUTING.md"))
    lost = [
        name
        for name in named
        if "…" not in name and not any(path == name or path.endswith(f"/{name}") for path in tracked)
    ]

    assert len(named) > 20
    assert lost == []
