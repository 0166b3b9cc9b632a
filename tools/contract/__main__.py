"""`python -m contract`: writes the published contract, or checks that it is up to date."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from contract.files import drift, write
from contract.telemetry import with_tables


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code: 1 if the files differ from the code."""
    options = _parser().parse_args(arguments)
    if options.tables is not None:
        options.tables.write_text(with_tables(options.tables.read_text(encoding="utf-8")), encoding="utf-8")
        return 0
    if options.write is not None:
        changed = write(options.write)
        _say(*changed, f"{len(changed)} files written" if changed else "all files are up to date")
        return 0
    return _check(options.check)


def _check(folder: Path) -> int:
    differences = list(drift(folder))
    if not differences:
        return 0
    _say(
        *differences,
        f"{len(differences)} files of the contract differ from the code. If the change is intended, update them:",
        f"    python -m contract --write {folder}",
    )
    return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m contract", description=__doc__)
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--write", metavar="FOLDER", type=Path, help="write the generated files")
    action.add_argument(
        "--check", metavar="FOLDER", type=Path, help="compare the files; exit with 1 if they differ"
    )
    action.add_argument("--tables", metavar="FILE", type=Path, help="update the telemetry tables of a document")
    return parser


def _say(*lines: str) -> None:
    sys.stderr.write("".join(f"{line}\n" for line in lines))


if __name__ == "__main__":
    raise SystemExit(main())
