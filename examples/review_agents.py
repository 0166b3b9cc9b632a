"""Agents of review.yaml: a change is checked and corrected. The same change always has the same mistakes."""

from __future__ import annotations

from anabranch import Task, agent


@agent("analyse")
def analyse(task: Task) -> list[str]:
    """The mistakes of one kind in a change."""
    kind = task.inputs["kind"]
    return [mistake for mistake in task.inputs["mistakes"] if mistake.startswith(kind)]


@agent("correct")
def correct(task: Task) -> list[str]:
    """Correct the first mistake of each kind; the others are left."""
    left = list(task.inputs["mistakes"])
    for found in task.inputs["found"]:
        if found:
            left.remove(found[0])
    return left
