"""Quantities as Kubernetes writes them, what workers offer, and what fits into it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anabranch import RequestRefused
from anabranch.core.quantities import parse_quantity, show_bytes, show_thousandths, thousandths, whole
from anabranch.core.request.admission import read_request
from anabranch.core.request.planning import plan
from anabranch.core.request.resources import Requires
from anabranch.core.requirements import (
    NO_OFFERS,
    Offers,
    fits,
    fits_now,
    lacks,
    offers_of,
    parse_offers,
    why_nobody_fits,
)
from anabranch.runtime.process.settings import Settings


@pytest.mark.parametrize(
    ("given", "cpu", "size"),
    [
        (2, 2_000, 2),
        (0.1, 100, 1),
        ("500m", 500, 1),
        ("0.5", 500, 1),
        (".5", 500, 1),
        ("2.", 2_000, 2),
        ("1Ki", 1_024_000, 1_024),
        ("1.5Gi", 1_610_612_736_000, 1_610_612_736),
        ("1G", 10**12, 10**9),
        ("12e3", 12_000_000, 12_000),
        ("1E3", 1_000_000, 1_000),
        ("1E", 10**21, 10**18),
        ("100n", 1, 1),
        ("1u", 1, 1),
        (" 3k ", 3_000_000, 3_000),
        (0, 0, 0),
    ],
)
def test_quantities_are_read_as_kubernetes_reads_them(given: Any, cpu: int, size: int) -> None:
    assert (thousandths(given), whole(given)) == (cpu, size)


@pytest.mark.parametrize(
    "wrong",
    ["", "m", "5mi", "5KI", "1 Gi", "-1", "1e", "1e5Ki", "+-1", "0x10", "NaN", -1, True, None, [], "9" * 41, 1e30],
)
def test_anything_else_is_refused(wrong: Any) -> None:
    with pytest.raises(ValueError, match=r"quantity|between|not"):
        parse_quantity(wrong)


@given(st.integers(0, 10**15))
def test_an_amount_is_shown_as_it_is_read(amount: int) -> None:
    assert thousandths(show_thousandths(amount)) == amount
    assert whole(show_bytes(amount)) == amount


def test_offers_have_resources_and_labels_in_any_order() -> None:
    wanted = Offers({"cpu": 4_000, "memory": 8 * 2**30}, {"ssd": "true", "zone": "eu"})
    for text in (
        "cpu=4,memory=8Gi,labels=ssd,zone=eu",
        "labels=zone=eu;ssd,cpu=4,memory=8Gi",
        " cpu = 4 , memory = 8Gi , labels = ssd=true , zone = eu ",
        "labels=ssd,labels=zone=eu,memory=8Gi,cpu=4000m",
    ):
        assert parse_offers(text) == wanted
    assert offers_of(wanted.to_document()) == wanted
    assert parse_offers("") == NO_OFFERS == parse_offers("labels=")
    assert Settings.load(
        {}, overrides={"offers": {"cpu": 4, "memory": "8Gi", "labels": ["ssd", "zone=eu"]}}
    ).offers
    assert parse_offers(Settings.load({"ANABRANCH_OFFERS": "cpu=4"}).offers) == Offers({"cpu": 4_000})


@pytest.mark.parametrize(
    "wrong", ["cpu", "cpus=4", "cpu=four", "cpu=1,cpu=2", "ssd", "cpu=-1", "labels=a=1,a=2", "labels=a="]
)
def test_wrong_offers_are_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match=r"offer|twice|quantity|label|values"):
        parse_offers(wrong)


def test_what_fits_depends_on_what_runs() -> None:
    offers = parse_offers("cpu=2,memory=4Gi,labels=zone=eu")
    small = Requires(cpu="500m", memory="1Gi", labels={"zone": "eu"})
    assert fits(small, offers)
    assert fits_now(small, offers, {"cpu": 1_500})
    assert not fits_now(small, offers, {"cpu": 1_501})
    assert fits(Requires(), NO_OFFERS)
    assert not fits(Requires(labels=["ssd"]), offers)


def test_what_a_worker_lacks_is_said_in_the_units_of_the_request() -> None:
    required = Requires(cpu=2, memory="8Gi", gpu=1, labels={"zone": "eu", "ssd": "true"})
    offers = parse_offers("cpu=4,memory=4Gi,labels=zone=us")
    assert lacks(required, offers) == ["memory 8Gi (offers 4Gi)", "gpu 1 (offers 0)", "label ssd", "label zone=eu"]
    workers = [(f"w{number}", offers) for number in range(7)]
    said = why_nobody_fits(Requires(gpu=1), workers)
    assert said.startswith("w0 lacks gpu 1 (offers 0); w1")
    assert said.endswith("; and 2 more workers")


def test_requirements_have_one_spelling() -> None:
    one = Requires(cpu=0.5, memory="1024Mi", labels=["ssd", "zone=eu"])
    other = Requires(cpu="500m", memory=2**30, labels={"zone": "eu", "ssd": True})
    assert one == other
    spelled = {"cpu": "500m", "memory": "1Gi", "labels": {"ssd": "true", "zone": "eu"}}
    assert one.to_document() == spelled
    tasks = [{"name": "t", "agent": "a", "requires": one.to_document()}, {"name": "u", "agent": "a"}]
    planned = plan(read_request({"task_groups": [{"name": "g", "tasks": tasks}]}).required())
    shown = planned.to_document(document_bytes=1)["tasks"]
    assert [task.get("requires") for task in shown] == [spelled, None]


@pytest.mark.parametrize(
    ("fields", "path", "said"),
    [
        ({"requires": {"cpu": "4 cores"}}, "/requires/cpu", "is not a quantity"),
        ({"requires": {"memory": -1}}, "/requires/memory", "is not between"),
        ({"requires": {"cpus": 4}}, "/requires/cpus", "there is no field"),
        ({"requires": {"labels": "ssd"}}, "/requires/labels", "must be an object"),
        ({"requires": {"labels": ["a=1", "a=2"]}}, "/requires/labels", "two values"),
        ({"requires": 4}, "/requires", "must be an object"),
        ({"agent": None, "wait": {"for": "1s"}, "requires": {"cpu": 1}}, "", "no agent that would use it"),
    ],
)
def test_wrong_requirements_are_refused_with_their_place(fields: dict[str, Any], path: str, said: str) -> None:
    task = {"name": "t", "agent": "a", **fields}
    with pytest.raises(RequestRefused) as refused:
        read_request({"task_groups": [{"name": "g", "tasks": [task]}]}).required()

    [problem] = refused.value.errors
    assert (problem.path, said in problem.message) == (f"/task_groups/0/tasks/0{path}", True), problem
