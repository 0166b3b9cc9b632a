"""Runs the code blocks of one page of the documentation, in order, in a separate folder.

Pages use default addresses (`localhost:9092`), which are replaced by those of the tests' servers. Python blocks of
a page share their names, shell blocks their environment. A service in a shell block (`anabranch taskgroup`,
`anabranch dev`) is started, awaited, and stopped at the end of the page; an Agency and an EventManager without
options are those that run for all pages. After `anabranch dev` the commands of the page use that system, as in a
shell without variables for servers, until the page starts another service.
"""

from __future__ import annotations

import contextlib
import inspect
import io
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

from cluster import await_true, log_tails
from doc_blocks import Block, missing_lines

from anabranch.core.request.admission import read_request
from anabranch.core.request.models import ControlRecord, ControlType
from anabranch.core.yaml_documents import load_yaml
from anabranch.runtime.process.settings import Settings
from anabranch.testing.plugin import anabranch_system

SERVICES = re.compile(r"^anabranch (agency|taskgroup|worker|eventmanager|dev|gateway)\b")
RUNNING = frozenset({"anabranch agency", "anabranch eventmanager"})
SERVERS = frozenset({"ANABRANCH_BROKERS", "ANABRANCH_REDIS_URL"})
READY = (b" ready", b"is running")
SHELL_SECONDS = 100
PARAMETERS = 2
"""Number of cases that are run of a parametrized test in the docs."""
_MEMBERS = "# members: "


class Page:
    """One page while it is run. `replaced` maps addresses in the page to real ones. `command` is the program that
    replaces `anabranch`."""

    def __init__(
        self, folder: Path, environ: Mapping[str, str], replaced: Mapping[str, str], command: Path
    ) -> None:
        self._folder = folder
        self._environ = {**environ, "XDG_RUNTIME_DIR": str(folder / "runtime")}
        self._servers = {name: value for name, value in environ.items() if name in SERVERS}
        self._replaced = replaced
        self._names: dict[str, Any] = {"__name__": "__main__"}
        self._services: list[tuple[subprocess.Popen[bytes], Path]] = []
        self._output = ""
        commands = folder / "bin"
        commands.mkdir()
        (commands / "anabranch").symlink_to(command)
        (commands / "python").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
        (commands / "python").chmod(0o755)
        self._environ["PATH"] = f"{commands}:{self._environ['PATH']}"

    def run(self, block: Block) -> None:
        """Run the block according to its language. Raises AssertionError if it does not work."""
        text = block.text
        for address, there in self._replaced.items():
            text = text.replace(address, there)
        if block.is_output:
            lost = missing_lines(text, self._output)
            assert not lost, f"not printed: {lost}\n--- printed:\n{self._output}"
            return
        if block.title:
            (self._folder / block.title).write_text(text, encoding="utf-8")
        match block.language:
            case "python":
                self._python(block, text)
            case "sh":
                self._shell(text)
            case "yaml" | "json":
                _document(block, text)

    def close(self) -> None:
        for process, _ in self._services:
            process.terminate()
        for process, _ in self._services:
            process.wait(timeout=60)

    def logs(self) -> str:
        """The ends of the logs of the services that the page has started."""
        return log_tails(log for _, log in self._services)

    # --- Python -------------------------------------------------------------------------------

    def _python(self, block: Block, text: str) -> None:
        """Run it at its position in the page, so that tracebacks have the page's line numbers."""
        self._names["__name__"] = Path(block.title).stem if block.title else "__main__"
        known = set(self._names)
        code = compile("\n" * (block.line - 1) + text, str(block.path), "exec")
        output = io.StringIO()
        with self._here(), contextlib.redirect_stdout(output):
            exec(code, self._names)
            # A block calls the tests that it defines, also again, but not those of the blocks before it.
            for name in [*self._names]:
                if name.startswith("test_") and (name not in known or f"def {name}(" in text):
                    _call(self._names[name])
        self._output = output.getvalue()

    @contextlib.contextmanager
    def _here(self) -> Iterator[None]:
        before, path, modules = Path.cwd(), list(sys.path), set(sys.modules)
        os.chdir(self._folder)
        sys.path.insert(0, str(self._folder))
        try:
            yield
        finally:
            os.chdir(before)
            sys.path[:] = path
            # Another page may have a module of the same name.
            for name in set(sys.modules) - modules:
                file = getattr(sys.modules[name], "__file__", None) or ""
                if file.startswith(str(self._folder)):
                    del sys.modules[name]

    # --- the shell ----------------------------------------------------------------------------

    def _shell(self, text: str) -> None:
        lines: list[str] = []
        self._output = ""
        for line in text.splitlines():
            if line in RUNNING:
                continue
            if SERVICES.match(line):
                self._script(lines)
                self._start(line)
                lines = []
            else:
                lines.append(line)
        self._script(lines)

    def _script(self, lines: list[str]) -> None:
        if not any(line.strip() for line in lines):
            return
        kept = self._folder / ".environment"
        # Exports of a block apply to the next ones. With -0 a value may have several lines.
        script = "\n".join(["set -euo pipefail", *lines, f"env -0 > {kept}"])
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=self._folder,
            env=self._environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=SHELL_SECONDS,
            check=False,
        )
        self._output += done.stdout
        assert done.returncode == 0, f"exit code {done.returncode}:\n{done.stdout}"
        entries = kept.read_text().split("\0")
        self._environ = dict(entry.split("=", 1) for entry in entries if "=" in entry)

    def _start(self, line: str) -> None:
        self._reach(dev=line.startswith("anabranch dev"))
        log = self._folder / f"service-{len(self._services)}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                ["bash", "-c", f'exec "{sys.executable}" -m {line}'],
                cwd=self._folder,
                env=self._environ,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        self._services.append((process, log))
        await_true(lambda: process.poll() is not None or any(word in log.read_bytes() for word in READY), 90)
        self._output += log.read_text()
        assert process.poll() is None, f"{line} ended:\n{log.read_text()}"

    def _reach(self, *, dev: bool) -> None:
        for name, value in self._servers.items():
            if dev:
                self._environ.pop(name, None)
            else:
                self._environ[name] = value


def _call(test: Any) -> None:
    """Call a test of the docs as pytest would, with a few of its parameters."""
    fixtures = {}
    with contextlib.ExitStack() as stack:
        if "anabranch_system" in inspect.signature(test).parameters:
            # pytest refuses to call a fixture itself.
            made = inspect.unwrap(anabranch_system)()
            fixtures["anabranch_system"] = stack.enter_context(contextlib.contextmanager(lambda: made)())
        marks = [mark for mark in getattr(test, "pytestmark", ()) if mark.name == "parametrize"]
        if not marks:
            test(**fixtures)
        for mark in marks:
            name, values = mark.args
            for value in list(values)[:PARAMETERS]:
                test(**fixtures, **{name: value})


def _document(block: Block, text: str) -> None:
    """Plan a request, parse a control record, load settings; only parse other JSON."""
    if block.language == "json" and "}\n{" in text:
        for line in text.splitlines():
            _document(block, line)
        return
    document = load_yaml(text.encode())
    if block.title and block.title.startswith("anabranch."):
        assert document
        Settings.load(environ={}, overrides=document)
    elif isinstance(document, dict) and ("task_groups" in document or "object" in document):
        reading = read_request(document)
        assert reading.errors == ()
        if text.startswith(_MEMBERS):
            names = text.partition("\n")[0].removeprefix(_MEMBERS)
            [task] = reading.to_document(expand=True)["tasks"]
            assert [member["message"] for member in task["expanded"]] == names.split()
    elif isinstance(document, dict) and document.get("type") in get_args(ControlType):
        ControlRecord.model_validate(document)
