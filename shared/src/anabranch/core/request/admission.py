"""Validates a request and reports every error at once, before anything starts.

``read_request`` takes a document, ``parse_request`` bytes. A schema error does not stop the later checks:
what is readable is checked. Pure: what it must know of the environment (agents, keys of the session, limits) is
passed in, and it starts nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from typing import Any

from pydantic import ValidationError

from anabranch.core.errors import Code, Problem, RequestRefused
from anabranch.core.json_documents import Format, compact_size, is_deep, load_document, too_deep
from anabranch.core.json_values import NotJson, as_json
from anabranch.core.names import key_problem, session_id_problem
from anabranch.core.request import validation
from anabranch.core.request.context_view import ContextView
from anabranch.core.request.envelope import Sent, unwrap
from anabranch.core.request.excess import without_excess
from anabranch.core.request.flow_validation import flow_problems
from anabranch.core.request.graph import Graph, SessionKeys, build_graph
from anabranch.core.request.member_counts import MemberForecast
from anabranch.core.request.models import Request
from anabranch.core.request.outline import GroupOutline, count_dependencies, outline_of, read_outline
from anabranch.core.request.planning import Plan, assemble, forecast_all, refused_document
from anabranch.core.request.schema_errors import schema_problems
from anabranch.core.request.sub_run_requests import sub_run_problems
from anabranch.core.request.unprovided import as_warnings, unprovided
from anabranch.core.request.wait_limits import waits_beyond_the_run
from anabranch.core.templates import RenderBudget


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of a request. A large single value is not an error: it is stored and referenced."""

    request_bytes: int = 1_000_000
    members: int = 1_000_000
    inline_bytes: int = 64 * 1024

    @property
    def parsed_bytes(self) -> int:
        """Maximum bytes that are parsed; a larger document is refused without its other errors."""
        return 2 * self.request_bytes


DEFAULT_LIMITS = Limits()
MAX_ERRORS = 1_000
"""Maximum number of errors reported for one request, because a record has to hold them."""
MAX_DEPENDENCIES = 1_000_000
"""Maximum dependencies of all tasks. A group's dependencies count for each of its tasks, so even a small request
can have very many."""


@dataclass(frozen=True, slots=True)
class ValidationResult:
    """The result of validating a document.

    Without ``errors`` there are ``request`` and ``plan``; with them neither. ``request_id`` and ``session_id``
    are set if the document names valid ones, even in a refused request. ``bytes`` is the size that was compared
    with the limit.
    """

    request: Request | None = None
    plan: Plan | None = None
    request_id: str | None = None
    session_id: str | None = None
    errors: tuple[Problem, ...] = ()
    warnings: tuple[str, ...] = ()
    bytes: int = 0
    task_groups: int = 0
    tasks: int = 0
    reads_context: bool = True
    """Whether a value of the request's context was read, so that other values may have another result."""

    def required(self) -> Request:
        """The request.

        Raises:
            RequestRefused: the request has errors.
        """
        if self.request is None:
            raise RequestRefused(self.errors, self.warnings)
        return self.request

    def to_document(
        self, *, expand: bool = False, limit: int | None = None, budget: RenderBudget | None = None
    ) -> dict[str, Any]:
        """The document of ``plan --json``, for a valid or a refused request; see ``Plan.to_document``."""
        if self.plan is not None:
            plan = replace(self.plan, warnings=self.warnings)
            return plan.to_document(document_bytes=self.bytes, expand=expand, limit=limit, budget=budget)
        return refused_document(
            self.errors,
            self.warnings,
            task_groups=self.task_groups,
            tasks=self.tasks,
            document_bytes=self.bytes,
        )


@dataclass(frozen=True, slots=True)
class _Environment:
    """Inputs of the checks beside the document."""

    limits: Limits
    agents: Collection[str] | None
    session_keys: SessionKeys
    strict: bool = False


def parse_request(
    data: bytes | str,
    format: Format = "json",
    *,
    limits: Limits = DEFAULT_LIMITS,
    agents: Collection[str] | None = None,
    session_keys: SessionKeys = (),
) -> ValidationResult:
    """Validate a request from bytes of JSON or YAML. Like ``read_request``; never raises for their content.

    The limit applies to the number of bytes; for YAML to that of the same document as compact JSON, in which form
    it is sent.
    """
    size = len(data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data)
    if size > limits.parsed_bytes:
        return ValidationResult(errors=(_too_large(size, limits),), bytes=size)
    try:
        document = load_document(data, format)
    except RequestRefused as refusal:
        return ValidationResult(errors=refusal.errors, bytes=size)
    document_bytes = size if format == "json" else None
    return read_request(
        document, limits=limits, agents=agents, session_keys=session_keys, document_bytes=document_bytes
    )


def read_request(
    document: object,
    *,
    limits: Limits = DEFAULT_LIMITS,
    agents: Collection[str] | None = None,
    session_keys: SessionKeys = (),
    document_bytes: int | None = None,
    strict: bool = False,
) -> ValidationResult:
    """Validate a request, or an envelope around one.

    Args:
        document: the parsed JSON or YAML; a ``Request`` is validated by its ``to_document()``.
        agents: the names in the registry; None accepts any agent, if the registry is not known.
        session_keys: the keys that the session has from earlier runs, or a function that looks keys up.
        document_bytes: its size as it was sent; None: its size as compact JSON.
        strict: refuse placeholders without a value; otherwise they are warnings.
    """
    if isinstance(document, Request):
        document = document.to_document()
    if not isinstance(document, Mapping):
        return ValidationResult(
            errors=(_not_a_request(document),), bytes=document_bytes or compact_size(document) or 0
        )
    compact = compact_size(document)
    size = compact if document_bytes is None else document_bytes
    result = _validate(unwrap(document), _Environment(limits, agents, session_keys, strict))
    sized = replace(result, bytes=size or 0)
    if compact is None:
        sized = _refuse(sized, too_deep() if is_deep(document) else _not_json(document))
    return _refuse(sized, _too_large(sized.bytes, limits)) if sized.bytes > limits.request_bytes else sized


def session_candidates(document: object) -> frozenset[str]:
    """The keys that only the session's earlier context could provide; the caller looks them up before validation.

    Empty for a document that is not a request. The dotted path of a mapped array yields each of its prefixes.
    """
    if not isinstance(document, Mapping):
        return frozenset()
    asked: set[str] = set()

    # The graph asks the session for each key that nothing else provides. The answer False makes it ask for every
    # prefix of a path, too.
    def ask(key: str) -> bool:
        asked.add(key)
        return False

    request = unwrap(document).request
    if count_dependencies(request) > MAX_DEPENDENCIES:
        return frozenset()
    tasks = [task for group in read_outline(request) for _, task in group.tasks]
    build_graph(tasks, _object(request, "context"), ask)
    return frozenset(asked)


def _refuse(result: ValidationResult, problem: Problem) -> ValidationResult:
    return replace(result, request=None, plan=None, errors=(problem, *result.errors))


def _validate(sent: Sent, environment: _Environment) -> ValidationResult:
    # One more than `_first` lists, which reports the excess.
    sent = replace(sent, request=without_excess(sent.request, MAX_ERRORS + 1))
    if (count := count_dependencies(sent.request)) > MAX_DEPENDENCIES:
        return ValidationResult(errors=(_too_many_dependencies(count, sent.pointer(("task_groups",))),))
    request, schema = _validated(sent)
    if request is not None:
        result = _examined(request, outline_of(request), (), sent, environment)
        if result.plan is not None:
            return result if result.plan.flow is None else _with_sub_runs(result, sent, environment)
    # A model does not know the positions of its fields, so errors are searched again in the document as sent.
    result = _examined(request, read_outline(sent.request), schema, sent, environment)
    return _with_sub_runs(result, sent, environment)


def _with_sub_runs(result: ValidationResult, sent: Sent, environment: _Environment) -> ValidationResult:
    """Refuse a request for the problems of the requests of its sub-runs, too. Each of them is examined once, so
    the time is that of their bytes, however deep they are in each other."""

    def check(document: Mapping[str, Any], session_keys: SessionKeys) -> Sequence[Problem]:
        return read_request(
            document, limits=environment.limits, agents=environment.agents, session_keys=session_keys
        ).errors

    if problems := list(sub_run_problems(sent.request, sent.pointer, check)):
        return replace(result, request=None, plan=None, errors=tuple(_first([*result.errors, *problems])))
    return result


def _examined(
    request: Request | None,
    groups: Sequence[GroupOutline],
    schema: Sequence[Problem],
    sent: Sent,
    environment: _Environment,
) -> ValidationResult:
    tasks = [task for group in groups for _, task in group.tasks]
    context = _object(sent.request, "context")
    graph = build_graph(tasks, context, environment.session_keys, _object(sent.request, "context_policies"))
    visible = ContextView(context, graph.producers)
    members = forecast_all(graph, visible)
    semantic = _semantic_problems(groups, graph, members, visible, sent, environment)
    errors = _first(chain(sent.errors, schema, validation.times(request, sent.pointer), semantic))
    warnings = [*sent.warnings, *(() if errors else validation.warnings_of(graph, members, context))]
    plan = assemble(request, graph, members) if request and not errors else None
    without_value = unprovided(plan, graph, visible, sent.pointer) if plan else []
    if plan and environment.strict:
        without_value += [Problem(Code.UNKNOWN_PLACEHOLDER, "", warning, "") for warning in plan.warnings]
    if without_value and environment.strict:
        plan, errors = None, _first(without_value)
    elif without_value:
        warnings += as_warnings(without_value)
    if plan and graph.flow:
        warnings += waits_beyond_the_run(plan.request)
    return ValidationResult(
        request=request if plan else None,
        plan=plan,
        request_id=_readable_id(sent.request.get("request_id")),
        session_id=_readable_session(sent.request.get("session_id")),
        errors=tuple(errors),
        warnings=(*warnings, *(plan.warnings if plan else ())),
        task_groups=len(groups),
        tasks=len(tasks),
        reads_context=visible.was_read,
    )


def _validated(sent: Sent) -> tuple[Request | None, list[Problem]]:
    try:
        return Request.model_validate(sent.request), []
    except ValidationError as error:
        found = schema_problems(error, sent.request, sent.pointer)
        return None, list(islice(found, MAX_ERRORS + 1))  # one more than `_first` lists, which reports the excess


def _semantic_problems(
    groups: Sequence[GroupOutline],
    graph: Graph,
    members: Sequence[MemberForecast],
    visible: ContextView,
    sent: Sent,
    environment: _Environment,
) -> Iterator[Problem]:
    pointer = sent.pointer
    yield from validation.duplicate_names(groups, pointer)
    yield from validation.duplicate_result_keys(graph, pointer)
    policies = _object(sent.request, "context_policies")
    yield from validation.context_policies(graph, policies, visible, pointer)
    yield from validation.unknown_agents(graph.tasks, environment.agents, pointer)
    yield from validation.expansions(graph.tasks, pointer)
    yield from validation.tolerances(graph.tasks, pointer)
    yield from validation.subsets(graph, pointer)
    yield from validation.unknown_keys(graph, pointer)
    if graph.flow is not None:
        yield from flow_problems(graph, policies, pointer)
    yield from validation.cycles(graph, pointer)
    yield from validation.too_many_members(graph.tasks, members, environment.limits.members, pointer)


def _first(problems: Iterable[Problem]) -> list[Problem]:
    """Each problem once, at most `MAX_ERRORS`."""
    found: dict[Problem, None] = {}
    for problem in problems:
        if len(found) == MAX_ERRORS and problem not in found:
            message = f"the request has more errors than these {MAX_ERRORS:,}"
            return [*found, Problem(Code.TOO_MANY_ERRORS, "", message, "correct these first")]
        found[problem] = None
    return list(found)


def _too_many_dependencies(count: int, path: str) -> Problem:
    message = f"the tasks have {count:,} dependencies together, over the limit of {MAX_DEPENDENCIES:,}"
    hint = "a group's dependencies count for each of its tasks; join many results in one task, and depend on that"
    return Problem(Code.TOO_MANY_DEPENDENCIES, path, message, hint)


def _object(request: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """A field of a request that should be an object; empty if it is not, which the schema check reports."""
    found = request.get(name)
    return found if isinstance(found, Mapping) else {}


def _readable_id(value: object) -> str | None:
    return value if isinstance(value, str) and key_problem(value) is None else None


def _readable_session(value: object) -> str | None:
    return value if isinstance(value, str) and session_id_problem(value) is None else None


_KINDS = {type(None): "null", list: "a list", str: "a string", bool: "true or false"}


def _not_a_request(document: object) -> Problem:
    kind = _KINDS.get(type(document), "a number")
    return Problem(Code.NOT_A_REQUEST, "", f"a request is an object, not {kind}", 'it has "task_groups"')


def _not_json(document: Mapping[Any, Any]) -> Problem:
    """The problem of a request built in Python: which value is not JSON, and its path."""
    message, hint = "the request holds values that JSON cannot express", "use JSON values only"
    try:
        as_json(document)
    except NotJson as refused:
        return Problem(Code.SCHEMA, refused.path, f"{message}: {refused.reason}", refused.fix or hint)
    return Problem(Code.SCHEMA, "", message, hint)  # such as keys of a subclass of str


def _too_large(size: int, limits: Limits) -> Problem:
    message = f"the request has {size:,} bytes, over the limit of {limits.request_bytes:,}"
    hint = "put large values into the session beforehand and depend on their keys, or split the request"
    return Problem(Code.TOO_LARGE, "", message, hint)
