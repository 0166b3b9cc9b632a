"""Turns the `strategy` of a job into its combinations, or into the expansion of its task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from anabranch.core.errors import ExpansionError
from anabranch.core.expansion.matrix import Matrix, check_entries
from anabranch.core.pipelines.conversion import Findings, Path, mapping
from anabranch.core.pipelines.github.expressions import Call, ExpressionError, Reference, split_text
from anabranch.core.templates import compact_json

MAX_COMBINATIONS = 256
"""As many as GitHub allows."""
PREFIX = "matrix."
_FIELDS = ("matrix", "fail-fast", "max-parallel")


@dataclass(frozen=True, slots=True)
class Strategy:
    """How often a job runs.

    Attributes:
        axes: the names of its matrix, of which all combinations have a value.
        combinations: the values of each; None: they are known only during the run.
        expansion: `expansion_config` of the task; None without a matrix.
        fail_fast: the first failure stops the others.
        max_parallel: how many run at once.
    """

    axes: tuple[str, ...] = ()
    combinations: tuple[dict[str, Any], ...] | None = ({},)
    expansion: dict[str, Any] | None = None
    fail_fast: bool = False
    max_parallel: int | None = None


def read_strategy(
    job: Mapping[str, Any],
    needs: Sequence[str],
    outputs: Mapping[str, Sequence[str]],
    findings: Findings,
    path: Path,
) -> Strategy:
    """Read the `strategy` of a job; what cannot be converted is an error at its path."""
    path = (*path, "strategy")
    given = mapping(findings, path, job.get("strategy"))
    findings.unknown_fields(path, given, _FIELDS)
    fail_fast = given.get("fail-fast", True)
    parallel = given.get("max-parallel")
    if not isinstance(fail_fast, bool):
        findings.unsupported((*path, "fail-fast"), "must be true or false; an expression is not supported")
    if parallel is not None and (type(parallel) is not int or parallel < 1):
        findings.unsupported((*path, "max-parallel"), "must be a number of at least 1")
        parallel = None
    if given.get("matrix") is None:
        return Strategy()
    if isinstance(given["matrix"], str):
        findings.unsupported(
            (*path, "matrix"),
            "a matrix that is an expression as a whole is not supported",
            "write its axes out; the list of an axis may be `${{ fromJSON(needs.JOB.outputs.NAME) }}`",
        )
        return Strategy()
    reader = _Reader(findings, (*path, "matrix"), needs, outputs)
    return reader.read(mapping(findings, (*path, "matrix"), given["matrix"]), bool(fail_fast), parallel)


class _Reader:
    def __init__(
        self, findings: Findings, path: Path, needs: Sequence[str], outputs: Mapping[str, Sequence[str]]
    ) -> None:
        self._findings = findings
        self._path = path
        self._needs = needs
        self._outputs = outputs

    def read(self, matrix: Mapping[str, Any], fail_fast: bool, parallel: int | None) -> Strategy:
        axes = {name: value for name, value in matrix.items() if name not in ("include", "exclude")}
        mapped = {PREFIX + name: self._axis(name, value) for name, value in axes.items()}
        include = self._entries(matrix, "include")
        exclude = self._entries(matrix, "exclude")
        for where, message in check_entries(list(mapped), include=include, exclude=exclude):
            self._findings.wrong((*self._path, *where), message.replace(PREFIX, ""))
        if any(isinstance(each, str) for each in mapped.values()):
            return self._unknown(mapped, include, exclude, fail_fast, parallel)
        arrays = {name: each for name, each in mapped.items() if isinstance(each, list)}
        try:
            combinations = tuple(_bounded(Matrix(arrays, include=include, exclude=exclude)))
        except ExpansionError as error:
            self._findings.wrong(self._path, str(error).replace(PREFIX, ""))
            return Strategy()
        return _known(arrays, include, exclude, combinations, fail_fast, parallel)

    def _unknown(
        self, mapped: dict[str, Any], include: list[Any], exclude: list[Any], fail_fast: bool, parallel: int | None
    ) -> Strategy:
        """A matrix with an axis that another job makes."""
        if fail_fast:
            self._findings.warn(
                (*self._path[:-1], "fail-fast"),
                "the combinations are known only during the run: after a failure the others go on",
            )
        extra = {key for entry in include for key in entry if key not in mapped}
        if extra:
            self._findings.unsupported(
                (*self._path, "include"), "adds names to a matrix whose combinations are known only during the run"
            )
        expansion = _expansion({"array_mapping": mapped, "include": include, "exclude": exclude})
        return Strategy(_names(mapped), None, expansion, False, parallel)

    def _axis(self, name: str, value: Any) -> list[Any] | str:
        """The values of an axis, or the path of the list that another job makes."""
        path = (*self._path, name)
        if isinstance(value, list):
            if any(isinstance(each, str) and "${{" in each for each in value):
                self._findings.unsupported(path, "expressions in the values of an axis are not supported")
            return value
        if isinstance(value, str) and (found := self._list_of_output(path, value)):
            return found
        self._findings.wrong(path, "must be a list, or `${{ fromJSON(needs.JOB.outputs.NAME) }}`")
        return []

    def _list_of_output(self, path: Path, value: str) -> str | None:
        try:
            parts = split_text(value)
        except ExpressionError as error:
            self._findings.unsupported(path, str(error))
            return None
        match parts:
            case [Call("fromjson", (Reference(("needs", job, "outputs", output)),))]:
                if job in self._needs and output in self._outputs.get(job, ()):
                    return f"{job}.{output}"
                self._findings.wrong(path, f"the job {job!r} is not in `needs`, or has no output {output!r}")
        return None

    def _entries(self, matrix: Mapping[str, Any], field: str) -> list[dict[str, Any]]:
        given = matrix.get(field) or []
        if not isinstance(given, list) or not all(isinstance(each, dict) for each in given):
            self._findings.unsupported((*self._path, field), "must be a list of objects")
            return []
        return [{PREFIX + name: value for name, value in each.items()} for each in given]


def _known(
    arrays: dict[str, list[Any]],
    include: list[dict[str, Any]],
    exclude: list[dict[str, Any]],
    combinations: tuple[dict[str, Any], ...],
    fail_fast: bool,
    parallel: int | None,
) -> Strategy:
    names = list(dict.fromkeys(name for each in combinations for name in each))
    filled = tuple({name: each.get(name, "") for name in names} for each in combinations)
    if filled == tuple({name: each.get(name) for name in names} for each in combinations):
        expansion = _expansion({"array_mapping": arrays, "include": include, "exclude": exclude})
    else:
        # A name that a combination lacks is empty in GitHub, and a placeholder without a value stays as it is.
        expansion = _expansion({"include": list(filled)})
    return Strategy(_names(names), filled, expansion, fail_fast, parallel)


def _expansion(fields: dict[str, Any]) -> dict[str, Any]:
    return {"type": "matrix", "output_format": "single", **{name: each for name, each in fields.items() if each}}


def _bounded(matrix: Matrix) -> list[dict[str, Any]]:
    if matrix.count > MAX_COMBINATIONS:
        raise ExpansionError(f"the matrix has {matrix.count} combinations, the maximum is {MAX_COMBINATIONS}")
    return list(matrix.between(0, matrix.count))


def _names(prefixed: Any) -> tuple[str, ...]:
    return tuple(name.removeprefix(PREFIX) for name in prefixed)


def combination_label(combination: Mapping[str, Any]) -> str:
    """The values of a combination, as GitHub shows them after the name of a job."""
    texts = [each if isinstance(each, str) else compact_json(each) for each in combination.values()]
    return ", ".join(text for text in texts if text)
