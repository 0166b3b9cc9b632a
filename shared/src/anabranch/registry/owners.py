"""Keeps the tasks of projects of the gateway apart: a task depends on tasks of its own project only."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from uuid import UUID

from anabranch.core.tasks.dependencies import does_not_exist
from anabranch.core.tasks.errors import TaskRefused, TaskStateError
from anabranch.core.tasks.models import Task
from anabranch.registry.transaction import Transaction


def check_owners(tx: Transaction, new: Sequence[Task], owner: str) -> None:
    """Check ids and dependencies of tasks that are created.

    Raises:
        TaskStateError: a task of another project has an id.
        TaskRefused: a dependency belongs to another project, which looks as if it did not exist.
    """
    for task in tx.tasks.load([each.id for each in new]).values():
        if task.owner != owner:
            raise TaskStateError(f"the task id {task.id} was used before: leave it out, or take a random one")
    check_owner(tx, {each for task in new for each in task.depends_on} - {task.id for task in new}, owner)


def check_owner(tx: Transaction, depends_on: Collection[UUID], owner: str) -> None:
    """Raises TaskRefused if a dependency belongs to another project."""
    foreign = [each.id for each in tx.tasks.load(depends_on).values() if each.owner != owner]
    if foreign:
        raise TaskRefused(tuple(does_not_exist(each) for each in sorted(foreign)))
