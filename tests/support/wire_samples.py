"""One message of each kind of the internal protocol, with all its fields: the source of the golden files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wire_order import ORDER
from wire_schedules import SCHEDULE, SCHEDULE_SAMPLES

from anabranch.core.request.configured_limits import AgentLimits, Places, ProjectLimits, RunLimitSet
from anabranch.core.request.limits import Breaker, RateLimit
from anabranch.core.request.resources import Requires
from anabranch.core.wire import messages as m

RUN, SESSION, REQUEST = "1730a2fb-229a-5d78-a020-51a0b15f671c", "shop.eu", "order-17"
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
AT = 1_896_058_800.25
PLACE: Mapping[str, Any] = {"run_id": RUN, "group": "fetch", "task": "page ü"}
CHUNK: Mapping[str, Any] = {**PLACE, "chunk": 7, "fence": 2}
WORK = m.WorkRef(group="fetch", task="page", iteration=(2, 0), index=7, attempt=2, redrive=1, handle="jobs/ab-0f")

CHILD = "9d3f5c8e-0f5d-5e55-9a34-0c9c3d5f6a10"
MEMBER: Mapping[str, Any] = {**PLACE, "index": 4, "iteration": (2, 0), "attempt": 2, "admission": 1_204}
LINK = m.ParentLink(**MEMBER, session_id=SESSION, depth=3)
ADDRESS = "event:0e1b6d3e2a2f4a5d9c8b7a6f5e4d3c2b"
WAITER = m.EventWaiter(**PLACE, session_id=SESSION, iteration=(2, 0), admission=4)

LIMIT = "limit:0e1b6d3e2a2f4a5d9c8b7a6f5e4d3c2b"
HOLDER = m.GrantHolder(**PLACE, session_id=SESSION, iteration=(2, 0), admission=4)
GRANTED: Mapping[str, Any] = {
    **PLACE,
    "iteration": (2, 0),
    "admission": 4,
    "session_id": SESSION,
    "address": LIMIT,
}
BREAKER = Breaker(failures=5, window="30s", probes=2, on_open="fail")
RATE: Mapping[str, Any] = {
    "limit": 10,
    "per": 60.0,
    "burst": 2,
    "on_full": "reject",
    "breaker": BREAKER,
    "scope": "agent",
}
CONFIGURED = RunLimitSet(
    project=ProjectLimits(concurrency=Places(limit=20)),
    agents={"http": AgentLimits(rate_limit=RateLimit(key="shop", limit=10, per="1m"), breaker=BREAKER)},
)
RULE = m.LimitRule(kind="rate", project="shop", name="http", **RATE)

Sample = tuple[m.Message, tuple[bytes, ...]]

SAMPLES: Mapping[type[m.Message], Sample] = {
    m.SubmitRun: (
        m.SubmitRun(
            run_id=RUN,
            request_id=REQUEST,
            session_id=SESSION,
            body_hash="9f86d081",
            request={"task_groups": [{"name": "g", "tasks": []}]},
            session_keys=("rates",),
            warnings=("careful",),
            origin="anabranch.requests/3/1204",
            traceparent=TRACE,
            retry_of="6f8e5fe6-eecb-5231-b44b-b71666ee9841",
            parent=LINK,
            definition=m.DefinitionRef(name="review", version="3", hash="9f86d081"),
            by="Ada",
            reason="the service is back",
            forked_from="6f8e5fe6-eecb-5231-b44b-b71666ee9841",
            taken=(("fetch", "page ü"),),
            requested_by="ann",
            budget=(5_000_000_000, None, None, None),
            inherited=m.Inherited(priority="high", pool="gpu", fairness_key="team-a", due_at=AT),
            schedule=m.ScheduleLink(address=SCHEDULE, id="nightly", at=1_896_058_800.0, source="backfill"),
        ),
        (),
    ),
    m.SubmitChild: (
        m.SubmitChild(
            run_id=CHILD,
            request_id=f"{RUN}/fetch/page ü/4",
            parent=LINK,
            project="shop",
            session_id=SESSION,
            request={"task_groups": [{"name": "g", "tasks": []}]},
            definition="review@3",
            context={"page": {"id": "a"}},
            timeout=600.0,
            traceparent=TRACE,
            budget=(5_000_000_000, None, None, 100),
            inherited=m.Inherited(priority="high", pool="gpu", fairness_key="team-a", due_at=AT),
        ),
        (),
    ),
    m.ControlChild: (m.ControlChild(run_id=CHILD, action="pause", parent=LINK, position=1_300), ()),
    m.ChildStarted: (m.ChildStarted(**MEMBER, child_run_id=CHILD), ()),
    m.ChildEnded: (
        m.ChildEnded(
            **MEMBER,
            child_run_id=CHILD,
            child_session_id=CHILD,
            status="failed",
            results={"text": ["a", None]},
            message="no luck",
            failures=(m.Failure(group="g", task="t", error_type="ValueError", message="no", attempts=2),),
            costs=(1_250_000_000, 400, 2_500_000, 12),
        ),
        (),
    ),
    m.ChildValue: (
        m.ChildValue(**MEMBER, items=(1,), error="gone", costs=(1_250_000_000, 400, 2_500_000, 12)),
        (b'[{"text":"a"}]',),
    ),
    m.ControlRun: (
        m.ControlRun(
            run_id=RUN,
            action="cancel",
            by="Ada",
            reason="no longer wanted",
            group="fetch",
            task="page ü",
            indexes=(4, 7),
            command_id="c-1",
            new_request_id="order-18",
            fork_from=("page ü",),
            fork_set={"lang": None},
            fork_request={"task_groups": []},
            origin="anabranch.requests/3/9",
            traceparent=TRACE,
            name="approve",
            value={"amount": 12},
            iteration=(0, 3),
        ),
        (),
    ),
    m.GroupResults: (
        m.GroupResults(run_id=RUN, group="fetch", part=1, results={"text": ["a", "b"]}, admission=1_204),
        (),
    ),
    m.GroupFinished: (
        m.GroupFinished(
            run_id=RUN,
            group="fetch",
            status="failed",
            results={"notes": None},
            parts=2,
            failures=(
                m.Failure(
                    group="fetch",
                    task="page ü",
                    index=4,
                    member="page ü_5",
                    error_type="ValueError",
                    message="no",
                    attempts=4,
                ),
            ),
            failure_count=9,
            failure_pages=(("fetch.0", 9, 1200),),
            counts=m.Counts(total=12, completed=2, failed=9, skipped=1),
            taken_over=1,
            handled_failures=2,
            skipped=(
                m.SkippedTask(group="fetch", task="page ü", reason="condition", because='lang == "en" is false'),
            ),
            warnings=("careful",),
            admission=1_204,
            costs=(("page ü", 1_250_000_000, 400, 2_500_000, 12),),
        ),
        (),
    ),
    m.TimerDue: (m.TimerDue(run_id=RUN, at=AT), ()),
    m.ClaimPartition: (m.ClaimPartition(owner="host-1/4711"), ()),
    m.OpenRun: (
        m.OpenRun(
            run_id=RUN,
            request_id=REQUEST,
            session_id=SESSION,
            groups=("fetch", "write"),
            context={"pages": [{"id": "a"}], "none": None},
            deadline=AT,
            traceparent=TRACE,
            retry_of="6f8e5fe6-eecb-5231-b44b-b71666ee9841",
            reserved_keys=("a_text",),
            shared={"notes": m.SharedKey(policy="append", producers=(("write", "a"), ("fetch", "page ü")))},
            alternatives={"summary": 2},
            phases=("compensate", "finally"),
            submitted_at=AT,
            admission=1_204,
            inline_limit=32_768,
            member_limit=500_000,
            depth=2,
            project="shop",
            forked_from="6f8e5fe6-eecb-5231-b44b-b71666ee9841",
            taken=(("fetch", "page ü"),),
            requested_by="ann",
            budget=(5_000_000_000, 100_000, None, None),
            priority="urgent",
            pool="gpu",
            fairness_key="team-a",
            due_at=AT,
            configured_limits=CONFIGURED,
        ),
        (),
    ),
    m.PhaseBegan: (m.PhaseBegan(run_id=RUN, phase="compensate", until=AT, admission=1_204), ()),
    m.StartGroup: (
        m.StartGroup(
            run_id=RUN,
            group="fetch",
            tasks=(ORDER,),
            part=1,
            parts=2,
            timeout=600.0,
            max_concurrency=20,
            fail_fast=True,
            need=2,
            is_finally=True,
            budget=(None, None, None, 100),
            most_chunks=4_096,
            admission=1_204,
        ),
        (),
    ),
    m.StopRun: (m.StopRun(run_id=RUN, reason="timed_out", admission=1_204, terminate=True), ()),
    m.CheckRun: (m.CheckRun(run_id=RUN, admission=1_204), ()),
    m.RunUnknown: (m.RunUnknown(run_id=RUN), ()),
    m.RunOverdue: (m.RunOverdue(run_id=RUN, session_id=SESSION, admission=1_204), ()),
    m.FailRun: (
        m.FailRun(
            run_id=RUN,
            error_type="RunLost",
            message="no records",
            group="fetch",
            task="page ü",
            abandoned=True,
            admission=1_204,
        ),
        (),
    ),
    m.Fragment: (m.Fragment(message_id="9f86d081884c7d659a2feaa0c55ad015", number=0, count=2), (b"{}\n",)),
    m.Snapshot: (
        m.Snapshot(
            run_id=RUN,
            admission=1_204,
            generation=1,
            opened_at=1_203,
            upto=4_711,
            version=1,
            touched_at=1_893_466_800.25,
        ),
        (b'{"run_id":"r"}', b"[1,2]"),
    ),
    m.PauseRun: (m.PauseRun(run_id=RUN, paused=True, cause=41, admission=1_204), ()),
    m.ReleaseHeld: (
        m.ReleaseHeld(
            run_id=RUN,
            action="redrive",
            group="fetch",
            task="page ü",
            indexes=(4, 7),
            iteration=(2, 0),
            command_id="anabranch.requests/3/9",
            by="Ada",
            reason="the service is back",
        ),
        (),
    ),
    m.ValueFound: (
        m.ValueFound(run_id=RUN, key="go", value={"by": "Ada"}, is_reference=False, error="too deep"),
        (),
    ),
    m.ArrayCounted: (m.ArrayCounted(**PLACE, error="`pages` is no list", iteration=(2, 0), admission=4), ()),
    m.CacheLooked: (
        m.CacheLooked(
            **PLACE,
            iteration=(2, 0),
            chunk=7,
            keys=("9f86d081", "", "884c7d65"),
            hits=(m.CacheHit(index=4, origin=m.CacheOrigin(**PLACE, index=3, iteration=(1,), at=AT)),),
            warning="some are not cached",
            admission=4,
        ),
        (b'["a"]', b"[null]"),
    ),
    m.SignalRun: (m.SignalRun(run_id=RUN, name="paid", signal_id="a1b2", admission=4), (b'{"amount": 12}',)),
    m.PublishEvent: (
        m.PublishEvent(
            run_id=ADDRESS,
            event_id="e1",
            project="shop",
            name="paid",
            key="order-7",
            ttl=60.0,
            deliver="one",
            origin="anabranch.requests/3/9",
        ),
        (b'{"amount": 12}',),
    ),
    m.OpenEventWait: (
        m.OpenEventWait(
            run_id=ADDRESS,
            waiter=WAITER,
            spans=((0, 2), (4, 5)),
            when={"field": "amount", "operator": "greater_than", "value": 5},
            deliver="one",
            collect=2,
            until=1_893_466_800.25,
        ),
        (),
    ),
    m.CloseEventWait: (m.CloseEventWait(run_id=ADDRESS, waiter=WAITER, spans=((0, 1),)), ()),
    m.AnswerEvent: (
        m.AnswerEvent(
            run_id=ADDRESS, waiter=WAITER, index=4, number=4_711, taken=True, is_open=False, deliver="one"
        ),
        (),
    ),
    **SCHEDULE_SAMPLES,
    m.DeliverEvent: (
        m.DeliverEvent(
            **PLACE,
            index=4,
            iteration=(2, 0),
            admission=4,
            session_id=SESSION,
            address=ADDRESS,
            number=4_711,
            event_id="e1",
            deliver="one",
        ),
        (b'{"amount": 12}',),
    ),
    m.WantGrant: (
        m.WantGrant(run_id=LIMIT, rule=RULE, holder=HOLDER, number=7, amount=12, since=AT, level=4, held=3),
        (),
    ),
    m.SetBreaker: (m.SetBreaker(run_id=LIMIT, name="http", is_open=True, by="Ada", reason="outage"), ()),
    m.HoldLimit: (m.HoldLimit(run_id=LIMIT, rule=RULE, until=AT), ()),
    m.ReturnGrant: (m.ReturnGrant(run_id=LIMIT, holder=HOLDER, number=7, left=2, passed=5, failed=1), ()),
    m.GrantAnswer: (
        m.GrantAnswer(**GRANTED, kind="rate", number=7, amount=3, verdict="refused", because="it is full"),
        (),
    ),
    m.CheckGrant: (m.CheckGrant(**GRANTED, numbers=(7, 8)), ()),
    m.DecideApproval: (
        m.DecideApproval(
            **PLACE,
            index=2,
            iteration=(0, 3),
            decision="approve",
            decision_id="d1",
            data={"amount": 12},
            comment="fine",
            by="ann",
            admission=4,
        ),
        (),
    ),
    m.WaitsRendered: (
        m.WaitsRendered(
            **PLACE, first=10_000, total=10_001, error="the value is gone", iteration=(2,), admission=4
        ),
        (b'[[1893456000.0,null,"de",null]]',),
    ),
    m.ConditionJudged: (
        m.ConditionJudged(
            **PLACE, iteration=(2, 0), purpose="when", case=1, because="n is 3", error="no value at n", admission=4
        ),
        (),
    ),
    m.LoopItems: (
        m.LoopItems(
            **PLACE,
            iteration=(2,),
            start=500,
            items=("a", {"n": 1}),
            last=True,
            error="the value is gone",
            admission=4,
        ),
        (),
    ),
    m.LoopTaken: (
        m.LoopTaken(
            **PLACE, number=3, key="text", page=1, parts=2, ended_by="items", counts=m.Counts(total=3, completed=3)
        ),
        (b'[{"value":"a"},{"value":null}]',),
    ),
    m.KeyReduced: (
        m.KeyReduced(
            run_id=RUN,
            key="notes",
            value=[1],
            count=7,
            bytes=70_000,
            error="no number",
            writers=("fetch/page ü",),
            admission=4,
        ),
        (),
    ),
    m.ValuePage: (m.ValuePage(**CHUNK, index=4, key="text", page=1), (b'["a\nb",\xc3',)),
    m.MembersReported: (
        m.MembersReported(
            **CHUNK,
            worker="w-1",
            started=((0, 3), (4, 6)),
            started_at=AT,
            completed=((0, 2),),
            items=(2, 1),
            large=(m.LargeValue(index=1, key="text", pages=(256_000, 12), items=(40, 2)),),
            failed=(m.MemberFailed(index=2, error_type="ValueError", message="no", attempts=4),),
            retried=(
                m.MemberRetry(index=4, attempt=1, delay=0.5, error_type="OSError", message="later", retrier=1),
            ),
            restarted=((5, 2, 3.5),),
            progress=((5, 0.25, "a quarter"),),
            logs=(m.MemberLog(index=5, attempt=1, at=AT, level="info", message="ü", fields={"rows": 3}),),
            last=True,
            busy=1.5,
            spent=((4, 2, 1_250_000_000, 400),),
            micros=2_500_000,
            usage=((0, 1, 250_000, 67_108_864),),
            agent="http",
            handles=((5, 2, "jobs/ab-0f"),),
        ),
        (b'["a",null]', b"", b'["a","b"]'),
    ),
    m.ChunkReturned: (m.ChunkReturned(**CHUNK, worker="w-1", reason="draining", breaker=BREAKER), ()),
    m.TakenPage: (m.TakenPage(**PLACE, index=4, key="text", page=1), (b'["a\nb",\xc3',)),
    m.MembersTaken: (
        m.MembersTaken(
            **PLACE,
            total=9,
            completed=((0, 2),),
            items=(2, 1),
            large=(m.LargeValue(index=1, key="text", pages=(256_000, 12), items=(40, 2)),),
            failed=(m.MemberFailed(index=2, error_type="ValueError", message="no", attempts=4),),
            unseen=("hint",),
        ),
        (b'["a",null]', b"", b'["a","b"]'),
    ),
    m.TaskTaken: (m.TaskTaken(**PLACE), (b'["a"]', b"null")),
    m.RunTaken: (m.RunTaken(run_id=RUN, warnings=("careful",)), ()),
    m.ChunkLost: (m.ChunkLost(**CHUNK, worker="w-1", cause="error"), ()),
    m.TaskUnserved: (
        m.TaskUnserved(**PLACE, iteration=(2, 0), admission=1_204, lacks="w-1 lacks gpu 1 (offers 0)"),
        (),
    ),
    m.PoolMissing: (m.PoolMissing(**PLACE, pool="gpu", since=AT, iteration=(2, 0), admission=4), ()),
    m.WorkFound: (m.WorkFound(run_id=RUN, session_id=SESSION, worker="w-1", kind="kubernetes", works=(WORK,)), ()),
    m.Nudge: (m.Nudge(run_id=RUN, silent_for=45.0), ()),
    m.Offer: (
        m.Offer(
            **CHUNK,
            session_id=SESSION,
            agent="http",
            spans=((0, 100), (250, 251)),
            attempts={250: 2},
            retrier_attempts={250: (1, 1)},
            handles={250: "jobs/ab-0f"},
            redrives={250: 1},
            expanded=True,
            concurrency=8,
            document_key="anabranch.{shop.eu}:task:r:fetch/page",
            items_key="anabranch.{shop.eu}:items:r:fetch/page/7/2",
            deadline=AT,
            claim_ttl=30.0,
            mode="careful",
            limited=True,
            breaker=5,
            priority="low",
            pool="gpu",
            fairness_key="team-a",
            iteration=(2, 0),
            requires=Requires(cpu="500m"),
            again=True,
        ),
        (b"", b'{"page":[1,2]}'),
    ),
}
