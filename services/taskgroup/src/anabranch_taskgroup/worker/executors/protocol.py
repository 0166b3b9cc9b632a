"""What the worker needs of an executor: something that makes one attempt of a member."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, Protocol

from anabranch.sdk.task import Task
from anabranch_taskgroup.worker.executors.coroutine_host import CoroutineHost


class MemberExecutor(Protocol):
    """Makes the attempts of the members of one agent. The agent's declaration chooses the kind of executor.

    The worker renders the member, calls `run` within a `CoroutineHost`, and treats what it returns or raises as
    the outcome of the attempt: retries, timeouts, reports and slots are the worker's and the same for every
    executor.

    **Work that outlives its worker** (a container, a Job of a cluster) meets this contract:

    - It is named by run, admission, group, task, iteration, index, redrive and attempt, so that a second start
      finds the work of the first instead of starting it again.
    - The executor reports its handle, and waits until the log has it, before it waits for the outcome. A worker
      that dies between the two leaves work without a handle, which its name still identifies.
    - When the worker stops or dies, the owner offers the chunk again, with the handles that it has. The next
      worker adopts: it waits for the same work, in the same attempt, instead of starting it. Where the work no
      longer exists the attempt has failed.
    - `cancel` ends the work itself, unless `leave` was called before it.
    - Work that no open member needs, because its run was cancelled while no worker had the chunk, is found and
      stopped: see `programs.orphans`.
    """

    def run(self, member: Task) -> Awaitable[Any]:
        """Make one attempt of a member.

        Returns:
            What the agent returned, once awaited. `Raised` stands for an exception that no coroutine can raise.
            Nothing of the agent has run before that.

        Raises:
            BaseException: whatever the agent raises, from awaiting it. The attempt has failed.
        """
        ...

    async def cancel(self, attempt: CoroutineHost) -> bool:
        """End an attempt that waits, because its time is over, its run is to stop or the worker stops.

        Returns:
            True once it has ended. False if it does not end within the grace period: it is left alone then, its
            outcome is dropped, and its slot goes to another member.
        """
        ...

    def leave(self) -> None:
        """The members go to another worker: attempts that are cancelled from now on leave work that outlives this
        worker alone. Other attempts end as they do otherwise."""
        ...
