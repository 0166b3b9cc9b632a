"""A user's type checker accepts workflows, and finds what is wrong in them."""

from __future__ import annotations

from pathlib import Path

import pytest
from mypy import api
from source_tree import ROOT

WRONG = """
from anabranch import WorkflowBuilder

flow = WorkflowBuilder("w", contxt={})
step = flow.add_task("a", agent="echo", timout="5s")
flow.add_wait("b", on_timeout="ignore")
flow.add_wait("c", approval={"subjct": "?"})
with flow.loop("l", until="true", on_limit="stop"):
    pass

@flow.task(tolerated=1)
def wrong(a: int) -> str:
    return str(a)

@flow.task(tolerated_failures=1)
def fine(a: int) -> str:
    return str(a)

reveal_type(fine(1))
reveal_type(step.key)
"""


def checked(tmp_path: Path, *files: Path) -> list[str]:
    """What `mypy --strict` says about files of a user, without the project's own settings."""
    settings = tmp_path / "mypy.ini"
    settings.write_text("[mypy]\nstrict = True\n")
    where = ["--config-file", str(settings), "--cache-dir", str(tmp_path / "cache"), "--no-error-summary"]
    output, errors, _ = api.run([*where, *map(str, files)])
    assert errors == ""
    return [line.partition(": ")[2] for line in output.splitlines()]


@pytest.mark.timeout(300)
def test_strict_mypy_accepts_the_examples_and_finds_wrong_options(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Files of the project are not installed for the child, so it reads them as the user's environment has them.
    monkeypatch.setenv("MYPYPATH", f"{ROOT / 'shared/src'}:{ROOT / 'examples'}")
    wrong = tmp_path / "wrong.py"
    wrong.write_text(WRONG)
    examples = [ROOT / "examples" / f"from_python{kind}.py" for kind in ("", "_steps", "_functions")]

    said = checked(tmp_path, wrong, *examples)

    kinds = [line.rpartition("[")[2].rstrip("]") for line in said if line.startswith("error")]
    # The decorator that is not found makes its function untyped.
    assert kinds == [*["call-arg"] * 2, *["arg-type"] * 3, "call-overload", "untyped-decorator"]
    revealed = [line.replace("builtins.", "") for line in said if "Revealed type" in line]
    assert revealed == ['note: Revealed type is "str"'] * 2
