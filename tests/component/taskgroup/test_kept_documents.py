"""Which documents of expanded tasks a worker keeps between their chunks."""

from __future__ import annotations

from functools import partial

from single_worker import NAMES, SingleWorker, offered

from anabranch.sdk.event_publisher import EventPublisher
from anabranch_taskgroup.worker.attempt_errors import AttemptErrors
from anabranch_taskgroup.worker.offered import chunk_key
from anabranch_taskgroup.worker.task_documents import TaskDocuments
from anabranch_taskgroup.worker.tracing import TaskTrace


def documents() -> TaskDocuments:
    single = SingleWorker()
    resources = single.resources
    trace = partial(TaskTrace, resources.telemetry, "w")
    errors = partial(AttemptErrors, lambda text: text, "w")
    return TaskDocuments(
        resources.store, NAMES, single.registry, trace, errors, EventPublisher(resources.log, NAMES)
    )


async def test_a_document_is_kept_while_a_chunk_of_its_task_is_held() -> None:
    kept = documents()
    first, second = offered("r", members=4), offered("r", members=4, chunk=1)
    prepared = await kept.get(first)

    kept.keep_only([chunk_key(first.offer)])

    assert await kept.get(second) is prepared


async def test_a_document_is_dropped_once_no_chunk_of_its_task_is_held() -> None:
    kept = documents()
    first, other = offered("r", members=4), offered("another", members=4)
    prepared = await kept.get(first)

    kept.keep_only([chunk_key(other.offer)])

    assert await kept.get(first) is not prepared


async def test_an_earlier_run_of_the_same_id_does_not_keep_a_document() -> None:
    kept = documents()
    first = offered("r", members=4)
    prepared = await kept.get(first)

    run_id, group, task, chunk, fence = chunk_key(first.offer)
    kept.keep_only([(run_id, group, task, chunk, fence + 2**40)])

    assert await kept.get(first) is not prepared
