"""Imports a module of agents, also from the current directory; a failure becomes one line.

A module is untrusted code: its import may raise anything or exit.
"""

from __future__ import annotations

import importlib
import os
import site
import sys
import sysconfig
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from anabranch.core.error_records import text_of, type_name
from anabranch.core.errors import Misconfigured
from anabranch.sdk.shadowing import refuse_shadows


def import_module(name: str) -> ModuleType:
    """Import a module by its dotted name.

    Raises:
        Misconfigured: the module cannot be imported, or files beside it shadow modules that Python or Anabranch
            needs.
    """
    here = _current_directory()
    if here is not None:
        if _is_in(here, name):
            refuse_shadows(here, name)
        _make_importable(str(here))
    importlib.invalidate_caches()  # the cached listing of a directory may lack a file that was just written
    try:
        return importlib.import_module(name)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise Misconfigured("agents", _why_not(name, error), _fix(name)) from error


def one_line(error: BaseException) -> str:
    """The type, the message and the file and line of an error, on one line."""
    message = " ".join(text_of(error).split())
    line = f"{type_name(error)}: {message}" if message else type_name(error)
    place = _place(error)
    return f"{line} ({place})" if place else line


def _why_not(name: str, error: BaseException) -> str:
    return f"the module {name[:200]!r} cannot be imported: {one_line(error)}"


def _fix(name: str) -> str:
    if name.endswith(".py") or "/" in name:
        return "write the module as in an import: pkg.module, not a path"
    return "check that it is in the current directory or an installed package"


def _place(error: BaseException) -> str:
    """The innermost frame outside of Python's import system and this package; empty for a syntax error, whose
    message has the place."""
    if isinstance(error, SyntaxError):
        return ""
    frames = [
        each
        for each in traceback.extract_tb(error.__traceback__)
        if not each.filename.startswith("<frozen") and each.filename not in (__file__, importlib.__file__)
    ]
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else ""


# --- the current directory ------------------------------------------------------------------------


def _current_directory() -> Path | None:
    try:
        return Path.cwd()
    except OSError:  # the directory was removed; installed packages can still be imported
        return None


def _is_in(folder: Path, name: str) -> bool:
    top = name.partition(".")[0]
    return bool(top) and ((folder / f"{top}.py").is_file() or (folder / top).is_dir())


def _make_importable(here: str) -> None:
    """Insert the current directory into `sys.path` after the standard library and before the installed
    packages."""
    if {here, ""} & set(sys.path):
        return
    installed = {os.path.realpath(each) for each in _installed()}
    places = [index for index, each in enumerate(sys.path) if os.path.realpath(each) in installed]
    sys.path.insert(min(places, default=len(sys.path)), here)


def _installed() -> Iterator[str]:
    yield sysconfig.get_path("purelib")
    yield sysconfig.get_path("platlib")
    yield from site.getsitepackages()
    yield site.getusersitepackages()
