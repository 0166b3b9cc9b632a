"""Blocks of steps: `with` statements of a builder."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any, Literal, Unpack

from anabranch.sdk.workflow.checked import checked
from anabranch.sdk.workflow.options import Condition, GroupOptions, Json, LoopOptions
from anabranch.sdk.workflow.places import Place, calling_place, wrong
from anabranch.sdk.workflow.steps import Case, Item, Step


class Blocks:
    """Holds the steps of a workflow, and the blocks that are open."""

    def __init__(self) -> None:
        self._items: list[Item] = []
        self._finally: list[Item] = []
        self._open: list[list[Item]] = [self._items]
        self._switches: list[Item] = []
        self._loops = 0

    @contextmanager
    def parallel(self) -> Generator[None, None, None]:
        """Steps in this block run at the same time."""
        with self._within(Item("parallel", calling_place())):
            yield

    @contextmanager
    def sequential(self) -> Generator[None, None, None]:
        """Steps in this block run one after another, as those of a workflow do."""
        with self._within(Item("sequential", calling_place())):
            yield

    @contextmanager
    def loop(
        self,
        name: str | None = None,
        *,
        each: Json = None,
        while_: Condition | None = None,
        until: Condition | None = None,
        **options: Unpack[LoopOptions],
    ) -> Generator[None, None, None]:
        """Steps in this block are repeated: for each item of a list, while or until a condition is true.

        Args:
            each: a list, or a path to one.
            while_: evaluated before each iteration; `until`: after each.
        """
        place = calling_place()
        ends = {"each": each.key if isinstance(each, Step) else each, "while": while_, "until": until}
        fields = {"name": name, **ends, **checked(LoopOptions, options, place)}
        self._loops += 1
        try:
            with self._within(Item("loop", place, _given(fields))):
                yield
        finally:
            self._loops -= 1

    @contextmanager
    def when(self, condition: Condition, *, name: str | None = None) -> Generator[None, None, None]:
        """Steps in this block run if the condition is true; those of `otherwise` after it, if it is false."""
        place = calling_place()
        case = Case(condition, place)
        self._open[-1].append(Item("if", place, _given({"name": name}), cases=[case]))
        with self._into(case.items):
            yield

    @contextmanager
    def otherwise(self) -> Generator[None, None, None]:
        """Steps that run if the condition of the block `when` before it is false.

        Raises:
            WorkflowError: there is no `when` directly before it.
        """
        place = calling_place()
        before = self._open[-1][-1] if self._open[-1] else None
        if before is None or before.kind != "if" or before.default is not None:
            raise wrong(place, "`otherwise` is not directly after a block `when`", "move it there")
        before.default = Case(None, place)
        with self._into(before.default.items):
            yield

    @contextmanager
    def switch(
        self, *, name: str | None = None, on_no_match: Literal["fail", "skip"] | None = None
    ) -> Generator[None, None, None]:
        """Chooses the first `case` in this block whose condition is true, else its `default`.

        Raises:
            WorkflowError: there is a step in it that is in no case, or it has no case.
        """
        item = Item("switch", calling_place(), _given({"name": name, "on_no_match": on_no_match}))
        self._open[-1].append(item)
        self._switches.append(item)
        try:
            with self._into(item.items):
                yield
        finally:
            self._switches.pop()
        if item.items:
            raise wrong(
                item.items[0].place, "a step in a switch and in no case", "put it into a `case` or `default`"
            )
        if not item.cases:
            raise wrong(item.place, "a switch without a case", "add `with workflow.case(condition):`")

    @contextmanager
    def case(self, when: Condition) -> Generator[None, None, None]:
        """Steps, or groups, that run if this is the first case with a true condition.

        Raises:
            WorkflowError: it is not directly in a switch.
        """
        case = Case(when, calling_place())
        self._switch_around(case.place, "case").cases.append(case)
        with self._into(case.items):
            yield

    @contextmanager
    def default(self) -> Generator[None, None, None]:
        """Steps, or groups, that run if no case of the switch has a true condition.

        Raises:
            WorkflowError: it is not directly in a switch, or the switch has one.
        """
        case = Case(None, calling_place())
        switch = self._switch_around(case.place, "default")
        if switch.default is not None:
            raise wrong(
                case.place, "a second `default` in a switch", f"the first one is at {switch.default.place}"
            )
        switch.default = case
        with self._into(case.items):
            yield

    @contextmanager
    def group(self, name: str, **options: Unpack[GroupOptions]) -> Generator[None, None, None]:
        """Tasks in this block are a group, which run as soon as their dependencies have values.

        A workflow with groups has no steps outside of them.
        """
        place = calling_place()
        fields = {"name": name, **checked(GroupOptions, options, place)}
        with self._within(Item("group", place, fields)):
            yield

    @contextmanager
    def finally_(self) -> Generator[None, None, None]:
        """Tasks that run when all else has ended, whatever happened."""
        with self._into(self._finally):
            yield

    def _switch_around(self, place: Place, block: str) -> Item:
        if not self._switches or self._open[-1] is not self._switches[-1].items:
            raise wrong(
                place, f"`{block}` is not directly in a `switch`", "write `with workflow.switch():` around it"
            )
        return self._switches[-1]

    @contextmanager
    def _within(self, item: Item) -> Generator[None, None, None]:
        self._open[-1].append(item)
        with self._into(item.items):
            yield

    @contextmanager
    def _into(self, items: list[Item]) -> Generator[None, None, None]:
        self._open.append(items)
        try:
            yield
        finally:
            self._open.pop()


def _given(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}
