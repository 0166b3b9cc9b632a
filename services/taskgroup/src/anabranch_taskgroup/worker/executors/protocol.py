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

    **Work that outlives its worker** (a job of a cluster, say) needs two more operations. They are not part of the
    protocol, because no executor has them; one that does has to meet this contract:

    - `start(member)` starts the work and returns its handle: bytes with which any worker finds the work. The work
      is named by run, admission, group, task, index and attempt, so that a second `start` finds the work of the
      first instead of starting it again.
    - The worker appends the handle to the log and waits for the acknowledgement, before it waits for the outcome.
      A worker that dies between the two leaves work without a handle, which its name still identifies.
    - When the worker stops or dies, the owner offers the chunk again, with the handles that it has. The next
      worker calls `adopt(handle)` instead of `start`. It waits for the same work, and its outcome is that of
      `run`; where the work no longer exists it raises, and the attempt has failed.
    - `cancel` ends the work itself. A worker that stops in good order does not call it for such work, and hands
      the chunk back.
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
