"""Turns the `if` of a job into a condition of a request."""

from __future__ import annotations

from typing import Any

from anabranch.core.pipelines.conversion import Findings, Path
from anabranch.core.pipelines.github.expressions import (
    Call,
    Constant,
    Expression,
    ExpressionError,
    Not,
    Operation,
    Reference,
    has_status_function,
    references,
)
from anabranch.core.pipelines.github.values import JobValues, Placeholder

_COMPARISONS = {
    "==": "equals",
    "!=": "not_equals",
    "<": "less_than",
    "<=": "less_or_equal",
    ">": "greater_than",
    ">=": "greater_or_equal",
}
_FUNCTIONS = {"contains": "contains", "startswith": "starts_with", "endswith": "ends_with"}
_MIRRORED = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}


class JobConditions:
    """Builds the conditions of one job; `path` is where its `if` stands."""

    def __init__(self, values: JobValues, findings: Findings, path: Path) -> None:
        self._values = values
        self._findings = findings
        self._path = path

    def build(self, expression: Expression) -> Any:
        """The condition in the data form.

        Raises:
            ExpressionError: it has no counterpart in a request.
        """
        condition = self._condition(expression)
        if not has_status_function(expression):
            return condition
        # Behind `always()` an output may be absent, which a condition cannot compare.
        producers = {
            each.path[1] for each in references(expression) if each.path[0] == "needs" and _is_output(each)
        }
        return _all([*(exists(job) for job in sorted(producers)), condition])

    def _condition(self, expression: Expression) -> Any:
        match expression:
            case Constant(value):
                return bool(value)
            case Not(operand):
                return {"not": self._condition(operand)}
            case Operation("&&" | "||" as operator, left, right):
                parts = [self._condition(left), self._condition(right)]
                return _all(parts) if operator == "&&" else {"any": parts}
            case Operation(operator, left, right):
                return self._comparison(operator, left, right)
            case Call(name, arguments):
                return self._call(name, arguments)
            case Reference():
                return self._truth(expression)
        raise AssertionError(expression)

    def _truth(self, reference: Reference) -> Any:
        """A value alone is true in GitHub unless it is empty, 0, false or null."""
        field = self._field(reference)
        return field if isinstance(field, bool) else {"not": _among(field, [False, 0, "", None])}

    def _comparison(self, operator: str, left: Expression, right: Expression) -> Any:
        if isinstance(left, Constant):
            left, right, operator = right, left, _MIRRORED.get(operator, operator)
        if isinstance(left, Constant):
            raise ExpressionError("two literals are compared: write the result")
        if not isinstance(left, Reference):
            raise ExpressionError("only a value such as `needs.build.outputs.version` can be compared")
        if left.path[0] == "needs" and left.path[2:] == ("result",):
            return self._result(left.path[1], operator, right)
        field = self._field(left)
        if isinstance(right, Reference):
            other = self._field(right)
            if isinstance(other, bool) or isinstance(field, bool):
                raise ExpressionError(f"{left} or {right} is always empty: the comparison is decided")
            return {"field": field, "operator": _COMPARISONS[operator], "value_field": other}
        if not isinstance(right, Constant):
            raise ExpressionError("only values and literals can be compared")
        if isinstance(field, bool):
            return (right.value in ("", None)) == (operator == "==")
        return {"field": field, "operator": _COMPARISONS[operator], "value": right.value}

    def _result(self, job: str, operator: str, right: Expression) -> Any:
        """`needs.build.result == 'success'`: a job that completed has a value, any other has none."""
        self._check_needed(job)
        if operator not in ("==", "!=") or not isinstance(right, Constant):
            raise ExpressionError("the result of a job can only be compared with `==` or `!=` and a literal")
        if right.value == "success":
            condition = exists(job)
        elif right.value == "failure":
            self._warn_of_skipped()
            condition = {"field": job, "operator": "not_exists"}
        else:
            raise ExpressionError(
                f"the result {right.value!r} of a job cannot be told from `failure` in a request"
            )
        return condition if operator == "==" else {"not": condition}

    def _call(self, name: str, arguments: tuple[Expression, ...]) -> Any:
        match name:
            case "always":
                return True
            case "cancelled":
                # A cancelled run starts nothing any more.
                return False
            case "success":
                return _all([exists(job) for job in self._values.needs])
            case "failure":
                self._warn_of_skipped()
                return _any([{"field": job, "operator": "not_exists"} for job in self._values.needs])
        if (operator := _FUNCTIONS.get(name)) is None:
            raise ExpressionError(f"the function {name} cannot be converted in the `if` of a job")
        if (
            len(arguments) != 2
            or not isinstance(arguments[0], Reference)
            or not isinstance(arguments[1], Constant)
        ):
            raise ExpressionError(f"{name} is supported for a value and a literal")
        field = self._field(arguments[0])
        if isinstance(field, bool):
            return arguments[1].value == ""
        return {"field": field, "operator": operator, "value": arguments[1].value}

    def _field(self, reference: Reference) -> str | bool:
        """The path of a value; False for one that is always empty.

        Raises:
            ExpressionError: it is not known before the job starts.
        """
        match self._values.resolve(reference):
            case Placeholder(name):
                if name.startswith("matrix."):
                    raise ExpressionError("the `if` of a job is evaluated before its matrix")
                return name
            case Constant():
                return False
        raise ExpressionError(f"{reference} is not known before the job starts")

    def _check_needed(self, job: str) -> None:
        if job not in self._values.needs:
            raise ExpressionError(f"the job {job!r} is not in `needs`")

    def _warn_of_skipped(self) -> None:
        self._findings.warn(
            self._path,
            "a needed job that was skipped or stopped counts as failed here",
            "its value is absent as well",
        )


def exists(job: str) -> dict[str, Any]:
    """True if a job has completed."""
    return {"field": job, "operator": "exists"}


def _is_output(reference: Reference) -> bool:
    return reference.path[2:3] == ("outputs",)


def _among(field: str, values: list[Any]) -> dict[str, Any]:
    return {"field": field, "operator": "in", "value": values}


def _all(parts: list[Any]) -> Any:
    left = [each for each in parts if each is not True]
    return True if not left else left[0] if len(left) == 1 else {"all": left}


def _any(parts: list[Any]) -> Any:
    return False if not parts else parts[0] if len(parts) == 1 else {"any": parts}
