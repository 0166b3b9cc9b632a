"""A task in the form that the session's owner receives. Import it from `messages`."""

from __future__ import annotations

from typing import Literal

from anabranch.core.lanes import Priority
from anabranch.core.request.budget_fields import Limit
from anabranch.core.request.cache_fields import Cache
from anabranch.core.request.flow import Loop, SubRun, Switch, Wait
from anabranch.core.request.limits import Concurrency, RateLimit
from anabranch.core.request.models import Compensation, Expansion, RetryPolicy
from anabranch.core.request.resources import Requires
from anabranch.core.wire.message_parts import Json, Message, Need, empty_object

TaskKindName = Literal["task", "switch", "loop", "wait", "run"]
"""The kinds of steps; `session.steps.registry` has the class of each."""


class BranchOrder(Message):
    """The task runs only if the value of `key`, the outcome of a switch, is `case`; else it is skipped for
    `reason`."""

    key: str
    case: int
    reason: Literal["branch", "condition"] = "branch"


class UndoneTask(Message):
    """The completed task that a compensation undoes, and the template of its inputs."""

    group: str
    task: str
    inputs: Json = None


class TaskOrder(Message):
    """A task for the session's owner: its dependencies, its agent and members, and how to join the outcomes."""

    name: str
    agent: str = ""
    """Empty if the task has no agent, see `kind`."""
    kind: TaskKindName = "task"
    needs: tuple[Need, ...] = ()
    context_keys: tuple[str, ...] = ()
    """Keys of the request's context that templates mention and the task does not declare."""
    result_keys: tuple[str, ...]
    shares: dict[str, int] = empty_object()
    """For each result key with a policy: the task's number among the tasks that produce it."""
    optional_result_keys: tuple[str, ...] = ()
    message_template: Json = None
    shared_instructions: Json = None
    inputs: Json = None
    tools: tuple[str, ...] = ()
    expansion: Expansion | None = None
    retry: RetryPolicy | None = None
    retriers: tuple[RetryPolicy, ...] = ()
    """In place of `retry`, several policies: the first one whose `errors` name the exception type applies."""
    max_deliveries: int = 5
    timeout: float | None = None
    tolerated_failures: int | str = 0
    on_failure: Literal["fail", "hold"] = "fail"
    max_concurrency: int | None = None
    when: Json = None
    """The condition of the task in its data form; null: none."""
    branch: BranchOrder | None = None
    announces: bool = False
    """Other tasks wait for the end of this one: it sets the key `names.outcome_name`."""
    error_key: str | None = None
    """A key that has a value exactly if the task failed."""
    in_loop: str | None = None
    """Name of the step of the group that repeats this one."""
    loop_names: tuple[str, ...] = ()
    """Names of its loops that templates, arrays and conditions mention: `iteration`, `item`, `state`, `last`; and
    `run`, which tasks in `finally` may mention."""
    switch: Switch | None = None
    loop: Loop | None = None
    wait: Wait | None = None
    run: SubRun | None = None
    compensate: Compensation | None = None
    budget: Limit | None = None
    """The most that the task may use; see `core.request.budget_fields`."""
    estimate: Limit | None = None
    """What one member will use."""
    requires: Requires | None = None
    """What each member requires of its worker; members are offered one by one then."""
    priority: Priority | None = None
    pool: str | None = None
    fairness_key: str | None = None
    """Of its offers; null: those of the run."""
    cache: Cache | None = None
    undoes: UndoneTask | None = None
    """Of a compensation, whose order the session's owner makes."""
    concurrency: Concurrency | None = None
    rate_limit: RateLimit | None = None
