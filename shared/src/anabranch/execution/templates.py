"""Reads the folder of templates: requests, each of which is a type of workflow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from anabranch.core.errors import Misconfigured
from anabranch.sdk.request_file import read_document

_SUFFIXES = frozenset({".yaml", ".yml", ".json"})


def read_templates(folder: Path) -> dict[str, dict[str, Any]]:
    """The requests in a folder, by the name of their file without its suffix.

    Raises:
        Misconfigured: there is no such folder, or a file is no object.
        RequestRefused: a file is neither JSON nor YAML.
    """
    if not folder.is_dir():
        raise Misconfigured("templates_dir", f"{folder} is no folder", "name a folder with requests")
    found: dict[str, dict[str, Any]] = {}
    for file in sorted(each for each in folder.iterdir() if each.suffix in _SUFFIXES):
        request = read_document(file)
        if not isinstance(request, dict):
            raise Misconfigured("templates_dir", f"{file} is no object", "make it a request, with task_groups")
        found[file.stem] = request
    return found
