"""The command `anabranch` for tests that call it often. Each call is a process forked from one that has imported
everything, with the caller's folder, environment and standard streams.

So a call does not take the second that Python needs for the imports.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PRELOADED = (
    "anabranch.cli.main",
    "anabranch.cli.commands.run",
    "anabranch.cli.top.command",
    "anabranch.cli.commands.why",
    "anabranch.embedded",
)
# Without `site` and PYTHON variables (-SE) the client itself starts in milliseconds.
_CLIENT = """#!{python} -SE
import json, os, socket, sys
link = socket.socket(socket.AF_UNIX)
link.connect({address!r})
call = json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)]).encode()
socket.send_fds(link, [len(call).to_bytes(4, "big")], [0, 1, 2])
link.sendall(call)
sys.exit(int(link.makefile().readline() or 70))
"""


@contextmanager
def zygote(folder: Path) -> Iterator[Path]:
    """Provide a program that is the command, while the context is open."""
    address = folder / "zygote"
    program = folder / "anabranch"
    program.write_text(_CLIENT.format(python=sys.executable, address=str(address)))
    program.chmod(0o755)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(address))
        listening.listen()
        process = subprocess.Popen(
            [sys.executable, __file__, str(listening.fileno())],
            pass_fds=[listening.fileno()],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
    try:
        yield program
    finally:
        process.terminate()
        process.wait()


def _serve(listening: socket.socket) -> None:
    """Fork for each call. The parent stays unchanged: no event loop, no thread, no connection."""
    for module in PRELOADED:
        importlib.import_module(module)
    # The kernel reaps ended calls, so the zygote need not wait for them.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        link, _ = listening.accept()
        if os.fork() == 0:
            _call(link)
        link.close()


def _call(link: socket.socket) -> None:
    """Run one call in its forked process, and send the exit code to the caller."""
    # With the inherited SIG_IGN, `subprocess` could not get the exit codes of its children.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    # The streams come with the first bytes that were sent with them: exactly these four.
    size, streams, _, _ = socket.recv_fds(link, 4, 3)
    arguments, folder, environ = json.loads(link.makefile("rb").read(int.from_bytes(size, "big")))
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environ)
    sys.path[:0] = [folder]
    code = 70
    try:
        from anabranch.cli.main import main

        code = main(arguments)
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        link.sendall(f"{code}\n".encode())
        # After any exception, too: the child must not return to the accept loop of the zygote.
        os._exit(code)


if __name__ == "__main__":
    _serve(socket.socket(fileno=int(sys.argv[1])))
