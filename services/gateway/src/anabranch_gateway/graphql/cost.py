"""What a query may cost, decided from its text before anything is read. Pure.

A field costs 1 and what is within it. Within a list it costs that for each entry that the list may have: `first`
of a page, or a fixed number where the list has no page. So the cost bounds the size of an answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from graphql import (
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    InlineFragmentNode,
    IntValueNode,
    OperationDefinitionNode,
    SelectionSetNode,
)
from graphql.validation import ValidationContext, ValidationRule

MAX_COST = 50_000
MAX_FIRST = 500
DEFAULT_FIRST = 50
UNPAGED: Mapping[str, int] = {"tasks": 100, "labels": 1, "failures": 10, "schedules": 100, "agents": 100}
"""Entries that lists without a page are counted with, by the name of their field."""
PAGED = frozenset({"runs", "deadLetters"})
_PAGE_PARTS = frozenset({"nodes"})


class CostLimit(ValidationRule):
    """Refuses an operation whose cost is over MAX_COST."""

    def enter_operation_definition(self, node: OperationDefinitionNode, *_: Any) -> None:
        """Called by the validation for each operation of the document."""
        found = cost_of(node.selection_set, self.context)
        if found > MAX_COST:
            name = node.name.value if node.name else "the query"
            hint = "ask for smaller pages or fewer fields"
            self.report_error(GraphQLError(f"{name} costs {found:,}, the maximum is {MAX_COST:,}: {hint}", node))


def cost_of(selections: SelectionSetNode, context: ValidationContext) -> int:
    """The cost of a selection. It stops counting once it is over MAX_COST."""
    return _cost(selections, context, (), DEFAULT_FIRST)


def _cost(selections: SelectionSetNode, context: ValidationContext, within: tuple[str, ...], entries: int) -> int:
    """`within` names the fragments around, because a document with a circle of them is validated too; `entries` is
    the size of the page whose fields these are."""
    total = 0
    for each in selections.selections:
        if total > MAX_COST:
            break
        if isinstance(each, FieldNode):
            total += _cost_of_field(each, context, within, entries)
        elif isinstance(each, InlineFragmentNode):
            total += _cost(each.selection_set, context, within, entries)
        elif isinstance(each, FragmentSpreadNode) and each.name.value not in within:
            fragment: FragmentDefinitionNode | None = context.get_fragment(each.name.value)
            if fragment is not None:
                total += _cost(fragment.selection_set, context, (*within, each.name.value), entries)
    return total


def _cost_of_field(field: FieldNode, context: ValidationContext, within: tuple[str, ...], entries: int) -> int:
    name = field.name.value
    if field.selection_set is None:
        return 1
    if name in PAGED:
        return 1 + _cost(field.selection_set, context, within, _first(field))
    inner = _cost(field.selection_set, context, within, entries)
    if name in _PAGE_PARTS:
        return 1 + entries * inner
    return 1 + UNPAGED.get(name, 1) * inner


def _first(field: FieldNode) -> int:
    """The size of a page. A variable may have any value, so it counts as the largest."""
    given = next((each.value for each in field.arguments or () if each.name.value == "first"), None)
    if given is None:
        return DEFAULT_FIRST
    return min(int(given.value), MAX_FIRST) if isinstance(given, IntValueNode) else MAX_FIRST
