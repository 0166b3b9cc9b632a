"""What a query may cost, decided from its text and variables before anything is read. Pure.

A field costs 1 and what is within it. Within a list it costs that for each entry that the list may have: `first`
of a page, or a fixed number where the list has no page. So the cost bounds the size of an answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from graphql import (
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    InlineFragmentNode,
    OperationDefinitionNode,
    SelectionSetNode,
    Undefined,
    value_from_ast_untyped,
)
from graphql.validation import ValidationRule
from strawberry.extensions import SchemaExtension

MAX_COST = 50_000
MAX_FIRST = 500
DEFAULT_FIRST = 50
UNPAGED: Mapping[str, int] = {"tasks": 100, "labels": 1, "failures": 10, "schedules": 100, "agents": 100}
"""Entries that lists without a page are counted with, by the name of their field."""
PAGED = frozenset({"runs", "deadLetters"})
_PAGE_PARTS = frozenset({"nodes"})


class CostLimit(SchemaExtension):
    """Refuses an operation whose cost is over MAX_COST, with the variables that it is sent with."""

    def on_operation(self) -> Iterator[None]:
        """Called by the library around each operation."""
        context = self.execution_context
        context.validation_rules = (*context.validation_rules, _rule(context.variables or {}))
        yield


def _rule(variables: Mapping[str, Any]) -> type[ValidationRule]:
    class Rule(ValidationRule):
        def enter_operation_definition(self, node: OperationDefinitionNode, *_: Any) -> None:
            found = _Cost(self.context.get_fragment, _values(node, variables)).of(node.selection_set)
            if found > MAX_COST:
                name = node.name.value if node.name else "the query"
                hint = "ask for smaller pages or fewer fields"
                self.report_error(
                    GraphQLError(f"{name} costs {found:,} or more, the maximum is {MAX_COST:,}: {hint}", node)
                )

    return Rule


def _values(operation: OperationDefinitionNode, variables: Mapping[str, Any]) -> dict[str, Any]:
    """The values of the operation's variables: those that are sent, else their defaults."""
    defaults = {
        each.variable.name.value: value_from_ast_untyped(each.default_value)
        for each in operation.variable_definitions or ()
        if each.default_value is not None
    }
    return {**defaults, **variables}


@dataclass(frozen=True, slots=True)
class _Cost:
    """Counts the cost of selections. It stops once it is over MAX_COST."""

    fragment_of: Callable[[str], FragmentDefinitionNode | None]
    variables: Mapping[str, Any]

    def of(self, selections: SelectionSetNode, within: tuple[str, ...] = (), entries: int = DEFAULT_FIRST) -> int:
        """`within` names the fragments around, because a document with a circle of them is validated too;
        `entries` is the size of the page whose fields these are."""
        total = 0
        for each in selections.selections:
            if total > MAX_COST:
                break
            if isinstance(each, FieldNode):
                total += self._of_field(each, within, entries)
            elif isinstance(each, InlineFragmentNode):
                total += self.of(each.selection_set, within, entries)
            elif isinstance(each, FragmentSpreadNode) and each.name.value not in within:
                fragment = self.fragment_of(each.name.value)
                if fragment is not None:
                    total += self.of(fragment.selection_set, (*within, each.name.value), entries)
        return total

    def _of_field(self, field: FieldNode, within: tuple[str, ...], entries: int) -> int:
        name = field.name.value
        if field.selection_set is None:
            return 1
        if name in PAGED:
            return 1 + self.of(field.selection_set, within, self._first(field))
        inner = self.of(field.selection_set, within, entries)
        return 1 + (entries if name in _PAGE_PARTS else UNPAGED.get(name, 1)) * inner

    def _first(self, field: FieldNode) -> int:
        """The size of a page; of one that is refused later, the largest."""
        given = next((each.value for each in field.arguments or () if each.name.value == "first"), None)
        value = DEFAULT_FIRST if given is None else value_from_ast_untyped(given, dict(self.variables))
        value = DEFAULT_FIRST if value is None or value is Undefined else value
        return value if type(value) is int and 0 <= value <= MAX_FIRST else MAX_FIRST
