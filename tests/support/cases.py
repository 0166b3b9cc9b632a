"""`python -m cases` (with tests/support on the path): runs and counts the tests that docs/failure-model.md names.

Prints a table for that document with the number of runs and passes of each; `--json` prints the counts, and
`--onto FILE` adds them to those of an earlier call. The exit code is 1 if any test failed.

    python -m cases --times 3 --onto counts.json
    make test PYTEST_ARGUMENTS=--junitxml=test.xml; python -m cases --reports test.xml --onto counts.json
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "failure-model.md"
NAMED = re.compile(r"`(?:tests/)?((?:\w+/)+test_\w+\.py)(?:::(\w+))?`(?: \(chaos\))?")

Counts = dict[str, dict[str, int]]
"""By test, as named in the document: `runs`, and how many of them `passed`."""


def named_tests() -> list[str]:
    """The tests of the document, in order, without repetitions."""
    found = NAMED.findall(DOCUMENT.read_text(encoding="utf-8"))
    return list(dict.fromkeys(f"{path}::{test}" if test else path for path, test in found))


def run(tests: Sequence[str]) -> Counts:
    """Run them once. A test with parameters passes if all of its cases pass."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        files = [f"tests/{each}" for each in tests]
        command = [sys.executable, "-m", "pytest", "-q", f"--junitxml={report}", *files]
        subprocess.run(command, cwd=ROOT, check=False, stdout=sys.stderr)
        return counted(report, tests)


def counted(report: Path, tests: Sequence[str]) -> Counts:
    """Counts from the JUnit report of any pytest run; a test that was not run has no runs."""
    cases = list(ElementTree.parse(report).iter("testcase"))
    return {test: _outcome(test, cases) for test in tests}


def _outcome(test: str, cases: Sequence[ElementTree.Element]) -> dict[str, int]:
    path, _, name = test.partition("::")
    module = "tests." + path.removesuffix(".py").replace("/", ".")
    mine = [
        case
        for case in cases
        if case.get("classname") == module and name in ("", (case.get("name") or "").partition("[")[0])
    ]
    bad = [case for case in mine if any(case.find(kind) is not None for kind in ("failure", "error", "skipped"))]
    return {"runs": int(bool(mine)), "passed": int(bool(mine) and not bad)}


def added(first: Counts, second: Counts) -> Counts:
    """The sum of both counts."""
    tests = dict.fromkeys((*first, *second))
    return {test: dict(Counter(first.get(test, {})) + Counter(second.get(test, {}))) for test in tests}


def table(counts: Counts) -> str:
    """The counts as table rows."""
    rows = [f"| `{test}` | {each.get('runs', 0)} | {each.get('passed', 0)} |" for test, each in counts.items()]
    return "\n".join(["| test | runs | passed |", "|---|---|---|", *rows])


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m cases", description=__doc__)
    parser.add_argument("--times", type=int, default=1, help="runs of each test")
    parser.add_argument("--only", default="", help="only tests whose names contain this")
    parser.add_argument(
        "--reports", type=Path, nargs="+", help="run nothing, and count the tests in these JUnit reports"
    )
    parser.add_argument("--onto", type=Path, help="file of counts, to which the new ones are added")
    parser.add_argument("--json", action="store_true", help="print the counts as JSON")
    arguments = parser.parse_args()
    tests = [each for each in named_tests() if arguments.only in each]
    if not tests:
        parser.error(f"no test of {DOCUMENT.name} is called {arguments.only!r}")
    counts: Counts = {}
    if arguments.onto is not None and arguments.onto.exists():
        counts = json.loads(arguments.onto.read_text(encoding="utf-8"))
    reports: Sequence[Path] = arguments.reports or ()
    failed = False
    for turn in range(len(reports) or arguments.times):
        found = counted(reports[turn], tests) if reports else run(tests)
        failed = failed or any(each["passed"] < each["runs"] for each in found.values())
        counts = added(counts, found)
        if arguments.onto is not None:
            arguments.onto.write_text(json.dumps(counts, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(counts, indent=1) if arguments.json else table(counts))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
