"""`python -m docs_site`: build the site, write or check the generated pages, draw diagrams and screens."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from docs_site.pages import drift, write


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code: 1 where something is not up to date or the site has faults."""
    options = _parser().parse_args(arguments)
    if options.action == "reference":
        return _reference(check=options.check)
    if options.action == "diagrams":
        from docs_site.diagrams import draw_missing

        _say(*(f"drew {path.name}" for path in draw_missing(options.mermaid)))
        return 0
    if options.action == "screens":
        from docs_site.screens import draw_all

        _say(*(f"drew {path.name}" for path in draw_all()))
        return 0
    from docs_site.building import build

    return build(options.into)


def _reference(*, check: bool) -> int:
    from docs_site.reference import reference_pages

    if not check:
        _say(*(f"wrote {path.name}" for path in write(reference_pages())))
        return 0
    found = list(drift(reference_pages()))
    if found:
        _say(*found, "If the change is meant, write them anew: make reference")
    return 1 if found else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m docs_site", description=__doc__)
    actions = parser.add_subparsers(dest="action", required=True)
    build = actions.add_parser("build", help="build the site, strictly")
    build.add_argument("--into", type=Path, default=Path("build/site"), help="the folder of the finished site")
    reference = actions.add_parser("reference", help="write docs/reference from the code")
    reference.add_argument("--check", action="store_true", help="compare only; exit with 1 where it differs")
    diagrams = actions.add_parser("diagrams", help="draw the diagrams that have no drawing yet")
    diagrams.add_argument("--mermaid", type=Path, required=True, help="mermaid.min.js of the npm package mermaid")
    actions.add_parser("screens", help="take the pictures of the terminal anew, from real runs")
    return parser


def _say(*lines: str) -> None:
    sys.stderr.write("".join(f"{line}\n" for line in lines))


if __name__ == "__main__":
    raise SystemExit(main())
