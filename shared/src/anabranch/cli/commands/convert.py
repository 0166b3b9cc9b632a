"""`anabranch convert FILE`: turns a pipeline of another system into a request. Needs no server."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import orjson

from anabranch.cli import request_files
from anabranch.cli.exits import COMPLETED, WRONG
from anabranch.cli.render.output import count, print_json, print_text, say
from anabranch.core.errors import Misconfigured
from anabranch.core.pipelines.conversion import Conversion
from anabranch.core.pipelines.converter import PipelineConverter, System
from anabranch.core.yaml_documents import dump_yaml


def convert(
    file: str, converter: PipelineConverter, *, system: System | None, output: Path | None, json: bool
) -> int:
    """Print or write the request; returns the exit code: 2 if the pipeline cannot be converted.

    Raises:
        RequestRefused: the file cannot be read.
        Misconfigured: the output cannot be written.
    """
    found = converter.convert(request_files.load(file), system)
    if output is not None and found.request is not None:
        _write(output, found)
    if json:
        print_json(found.to_document())
    else:
        _show(file, found, output)
    return COMPLETED if found.request is not None else WRONG


def _write(output: Path, found: Conversion) -> None:
    is_json = output.suffix.lower() == ".json"
    data = orjson.dumps(found.request, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    try:
        output.write_bytes(data if is_json else dump_yaml(found.request).encode())
    except OSError as error:
        raise Misconfigured(
            "--output",
            f"{output} cannot be written: {error.strerror or error}",
            "name a file in a folder that exists",
        ) from error


def scripts_of(texts: Sequence[str]) -> dict[str, str]:
    """The values of a repeated option NAME=SCRIPT. Raises Misconfigured: a text has no name or no script."""
    found = {}
    for text in texts:
        name, _, script = text.partition("=")
        if not name or not script:
            raise Misconfigured("--action", f"{text!r} is not NAME=SCRIPT", "such as --action actions/checkout=:")
        found[name] = script
    return found


def _show(file: str, found: Conversion, output: Path | None) -> None:
    for warning in found.warnings:
        say(f"Warning: {file}: {warning}")
    if found.request is None:
        say(f"{file} cannot be converted, {count(len(found.errors), 'error')}:")
        for error in found.errors:
            say(f"  {error}")
    elif output is None:
        print_text(dump_yaml(found.request).rstrip("\n"))
