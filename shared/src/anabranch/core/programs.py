"""What is shown of agents that are programs, and of the work of their attempts. Pure.

A summary of a program has nothing that may be secret: neither its variables nor the arguments of its command.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

PROGRAM_KINDS = ("process", "container", "kubernetes")
"""The kinds of agents that are programs. The built-in agents have the same names."""
SHOWN_ID = 12
"""Characters of the id of a container, as `docker ps` shows it."""


def summary(
    image: str | None, command: Sequence[str], namespace: str | None, service_account: str | None = None
) -> dict[str, Any]:
    """A program as far as it may be shown: `image`, the first word of its `command`, the number of its
    `arguments`, `namespace` and `service_account`. What it does not have is left out."""
    found: dict[str, Any] = {"image": image, "command": command[0] if command else None}
    found |= {"arguments": len(command) - 1 if len(command) > 1 else None}
    found |= {"namespace": namespace, "service_account": service_account}
    return {name: value for name, value in found.items() if value is not None}


def shown_program(kind: str, program: Mapping[str, Any]) -> str:
    """A program in a few words: `container registry.example/resize:3, convert with 2 arguments`."""
    number = program.get("arguments", 0)
    command = program.get("command")
    if command and number:
        command = f"{command} with {number:,} argument{'' if number == 1 else 's'}"
    parts = [str(part) for part in (program.get("image"), command) if part]
    if "namespace" in program:
        parts.append(f"in namespace {program['namespace']}")
    return f"{kind} {', '.join(parts)}" if parts else kind


def shown_work(handle: str) -> str:
    """The work of an attempt, by the handle that its worker put on the log: `Job NAMESPACE/NAME`,
    `container ID`. A handle of another form is shown as it is."""
    parts = handle.split("/")
    if len(parts) == 3:
        return f"Job {parts[0]}/{parts[1]}"
    return f"container {parts[1][:SHOWN_ID]}" if len(parts) == 2 else f"program {handle}"
