"""Chunks that have to wait for nothing share one task, and get one of their own where a member waits."""

from __future__ import annotations

from single_worker import SingleWorker, offered
from waiting import eventually, turns


async def test_chunks_that_are_ready_together_share_a_host_and_have_their_own_ids() -> None:
    started = await SingleWorker().start()
    await started.worker.accept([offered("a"), offered("b"), offered("c")])
    await eventually(lambda: not started.worker.held)

    assert started.seen == [(each, each, "nothing") for each in "abc"]
    assert len(set(started.tasks)) == 1
    await started.worker.accept([offered("d")])
    await eventually(lambda: not started.worker.held)
    assert len(set(started.tasks)) == 2, "a host is not used beyond the chunks that were ready with it"
    await started.worker.stop()
    reports = await started.reports()
    assert [each.segments for each in reports] == [(b'[{"of":"%b"}]' % each,) for each in (b"a", b"b", b"c", b"d")]
    assert all(each.message.last and each.message.started == ((0, 1),) for each in reports)


async def test_a_variable_that_an_agent_sets_is_not_seen_by_the_next_chunk() -> None:
    started = await SingleWorker().start()
    await started.worker.accept([offered("a", "changes"), offered("b"), offered("c", "waits"), offered("d")])
    started.go.set()
    await eventually(lambda: not started.worker.held)

    assert sorted(started.seen) == [
        ("a", "a", "a"),
        ("b", "b", "nothing"),
        ("c", "c", "nothing"),
        ("d", "d", "nothing"),
    ]
    await started.worker.stop()


async def test_members_that_wait_hold_slots_and_others_wait_for_them() -> None:
    started = await SingleWorker().start()
    await started.worker.accept([offered(each, "waits") for each in "abc"])
    await eventually(lambda: started.running == 2)
    await turns(20)

    assert (started.running, started.worker.free, started.worker.held) == (2, 0, 3)
    started.go.set()
    await eventually(lambda: not started.worker.held)
    assert sorted(started.seen) == [(each, each, "nothing") for each in "abc"]
    assert started.worker.free == 2
    await started.worker.stop()


async def test_a_stopped_member_is_cancelled_whether_its_task_has_begun_or_not() -> None:
    started = await SingleWorker().start()
    for waited in range(8):
        run_id = f"r{waited}"
        await started.worker.accept([offered(run_id, "waits")])
        await turns(waited)
        started.worker._stopped(run_id)
        await eventually(lambda: not (started.running or started.worker.held))
        await turns()

        assert started.worker.free == 2, "its slot is free again"
    assert started.seen == []
    await started.worker.stop()
    assert started.resources.supervisor.failure is None


async def test_a_worker_that_stops_returns_the_chunks_that_have_begun_and_that_wait() -> None:
    started = await SingleWorker().start()
    await started.worker.accept([offered(each, "waits") for each in "abc"])
    await eventually(lambda: started.running == 2)
    await started.worker.stop()

    assert started.running == 0
    returned = [each.message for each in await started.reports() if each.message.type == "returned"]
    assert sorted((each.run_id, each.reason) for each in returned) == [(each, "draining") for each in "abc"]
    assert started.resources.supervisor.failure is None
