"""What requests may run with the built-in agents of programs. Pure.

Agents of files are declared by the operator, and are not checked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from anabranch.sdk.programs.spec import ProgramSpec


@dataclass(frozen=True, slots=True)
class ProgramPolicy:
    """Patterns with wildcards of what requests may name.

    Attributes:
        commands: of the first word of a process's command.
        images: of images.
        namespaces: of the namespaces of Jobs; a Job without a namespace is always allowed.
    """

    commands: Sequence[str] = ()
    images: Sequence[str] = ()
    namespaces: Sequence[str] = ()

    def refusal(self, spec: ProgramSpec) -> str | None:
        """Why a request may not run a program, and what would allow it; None if it may."""
        if spec.kind == "process":
            program = spec.command[0] if spec.command else ""
            # `jobs/../../bin/sh` matches `jobs/*`.
            if ".." in program.split("/") or not _matches(program, self.commands):
                return f"the command {program!r} is not allowed: ANABRANCH_EXECUTOR_COMMANDS lists those that are"
            return None
        if not _matches(spec.image or "", self.images):
            return f"the image {spec.image!r} is not allowed: ANABRANCH_EXECUTOR_IMAGES lists those that are"
        if spec.namespace is not None and not _matches(spec.namespace, self.namespaces):
            return (
                f"the namespace {spec.namespace!r} is not allowed: ANABRANCH_EXECUTOR_NAMESPACES lists those that "
                "are"
            )
        return None


def _matches(text: str, patterns: Sequence[str]) -> bool:
    return bool(text) and any(fnmatchcase(text, pattern) for pattern in patterns)
