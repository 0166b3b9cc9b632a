"""Each outcome of the examples with control flow: what completes, what is refused, what fails and is undone."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest
from source_tree import ROOT

from anabranch.cli.main import main

EXAMPLES = ROOT / "examples"
MERGE = 'opinion={"decision": "merge", "data": {"remark": "fine"}}'


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Any:
    """Runs an example in virtual time; returns its result document, with what was `printed` beside it."""
    monkeypatch.chdir(EXAMPLES)
    monkeypatch.setattr(sys, "path", list(sys.path))

    def run_example(name: str, agents: str, *options: str) -> Any:
        main(["run", f"{name}.yaml", "--agents", agents, "--embedded", "--virtual-time", "--json", *options])
        printed = capfd.readouterr()
        return {**json.loads(printed.out), "printed": printed.err}

    return run_example


def skipped(document: Any) -> dict[str, str]:
    return {each["task"]: each["reason"] for each in document["skipped"]}


def failures(document: Any) -> list[tuple[str, str]]:
    return [(each["task"], each["error_type"]) for each in document["failures"]]


# --- kinds of steps ------------------------------------------------------------------------------


def test_a_task_step_gives_its_result_and_is_not_retried_for_a_wrong_input(run: Any) -> None:
    built, refused = run("step_task", "step_agents"), run("step_task", "step_agents", "--input", "package=")

    assert built["results"] == {"archive": {"package": "ferry", "file": "ferry.tar"}}
    assert (refused["status"], failures(refused)) == ("failed", [("build", "ValueError")])
    assert refused["failures"][0]["attempts"] == 1


def test_what_follows_parallel_steps_begins_after_all_of_them_and_not_after_a_failure(run: Any) -> None:
    good = run("step_parallel", "step_agents")
    broken = run("step_parallel", "step_agents", "--input", 'broken=["style"]')

    assert good["results"]["report"] == ["passed", "passed", "passed"]
    assert (broken["status"], failures(broken)) == ("failed", [("style", "RuntimeError")])
    assert set(broken["results"]) == {"archive", "unit", "integration"}
    assert skipped(broken) == {"report": "dependency"}


def test_a_sequence_stops_at_its_first_failure_and_its_neighbour_goes_on(run: Any) -> None:
    good = run("step_sequential", "step_agents")
    broken = run("step_sequential", "step_agents", "--input", 'broken=["smoke"]')

    assert good["results"]["announce"] == "ferry is out, smoke checks passed"
    assert good["results"]["summary"] == "the release completed"
    assert (broken["status"], skipped(broken)) == ("failed", {"announce": "dependency"})
    assert broken["results"] == {
        "deploy": "ferry.tar is installed",
        "archive": "ferry.tar is kept",
        "summary": "the release failed",
    }


def test_the_branch_that_was_not_chosen_is_skipped_and_the_join_has_the_other_value(run: Any) -> None:
    good = run("step_conditional", "step_agents")
    broken = run("step_conditional", "step_agents", "--input", 'broken=["unit"]')

    assert (good["results"]["message"], skipped(good)) == ("ferry was deployed", {"roll back": "branch"})
    assert broken["status"] == "completed"
    assert (broken["handled_failures"], skipped(broken)) == (1, {"deploy": "branch"})
    assert broken["results"]["message"] == "ferry was rolled back: the unit checks of ferry.tar found a mistake"


def test_a_loop_ends_by_its_condition_or_fails_at_its_limit(run: Any) -> None:
    up = run("step_loop", "step_agents")
    down = run("step_loop", "step_agents", "--input", "up_after=9")

    assert up["results"]["tell"] == {"up": True, "asked": 3}
    assert 20 <= up["duration_seconds"] < 21
    assert (down["status"], failures(down)) == ("failed", [("wait for ferry", "LoopExhausted")])


def test_waits_end_by_time_by_a_condition_by_a_signal_or_by_their_timeout(run: Any) -> None:
    late = run("step_wait", "step_agents")
    signed = run("step_wait", "step_agents", "--input", "mood=false", "--signal", 'weather={"wind": "strong"}')

    assert late["results"]["sail"] == "sails, the wind is calm"
    assert 7_500 <= late["duration_seconds"] < 7_510
    assert signed["results"]["sail"] == "sails, the wind is strong"
    assert signed["results"]["signature"] == "nobody signed"
    assert 86_700 <= signed["duration_seconds"] < 86_710


# --- whole workflows -----------------------------------------------------------------------------


def test_a_delivery_is_installed_after_an_approval(run: Any) -> None:
    document = run("delivery", "delivery_agents", "--decide", "release=approve")

    assert document["results"]["production"] == {"environment": "production", "image": "ferry:9f3c2ab"}
    assert document["results"]["watch.loop"] == {"iterations": 3, "ended_by": "condition"}
    assert document["results"]["tell"] == "delivery of 9f3c2ab41d: completed"


def test_a_delivery_with_red_tests_is_never_tried_out(run: Any) -> None:
    document = run("delivery", "delivery_agents", "--input", 'red=["security"]')

    assert failures(document) == [("security", "GiveUp")]
    assert not {"try out", "production"} & set(document["results"])
    assert document["results"]["tell"] == "delivery of 9f3c2ab41d: failed"


def test_a_trial_that_does_not_calm_down_is_never_released(run: Any) -> None:
    document = run("delivery", "delivery_agents", "--input", "floor=5")

    assert failures(document) == [("watch", "LoopExhausted")]
    assert skipped(document)["release"] == "dependency"


@pytest.mark.parametrize(
    ("decision", "error"), [(["--decide", "release=reject"], "ApprovalRejected"), ([], "WaitTimeout")]
)
def test_a_delivery_that_is_not_approved_is_not_installed(run: Any, decision: list[str], error: str) -> None:
    document = run("delivery", "delivery_agents", *decision)

    assert (document["status"], failures(document)) == ("failed", [("release", error)])
    assert skipped(document) == dict.fromkeys(("production", "settle", "final check"), "dependency")


def test_an_installation_that_fails_its_last_check_is_undone(run: Any) -> None:
    document = run("delivery", "delivery_agents", "--decide", "release=approve", "--input", 'red=["production"]')

    assert (document["status"], document["compensation"]) == ("failed", "complete")
    assert failures(document) == [("final check", "GiveUp")]
    assert "production is back at the image before ferry:9f3c2ab" in document["printed"]


def test_good_data_are_loaded_and_doubtful_data_are_set_aside(run: Any) -> None:
    good = run("warehouse", "warehouse_agents")
    doubtful = run("warehouse", "warehouse_agents", "--input", "wanted=0.9")

    assert good["results"]["report"] == "5 rows in sales, sum 40"
    assert doubtful["results"]["report"] == "5 rows in doubtful, sum 40"
    assert (set(skipped(good)), set(skipped(doubtful))) == ({"set aside", "nothing"}, {"load", "nothing"})


def test_one_source_that_is_lost_is_left_out_and_two_fail_the_run(run: Any) -> None:
    one = run("warehouse", "warehouse_agents", "--input", 'sources=["orders", "returns", "lost"]')
    two = run("warehouse", "warehouse_agents", "--input", 'sources=["orders", "lost", "found"]')

    assert (one["status"], one["results"]["loaded"]["rows"]) == ("completed", 3)
    assert two["status"] == "failed"
    assert "loaded" not in two["results"]


def test_a_review_is_polished_and_merged_by_a_person(run: Any) -> None:
    document = run("review", "review_agents", "--decide", MERGE)

    assert document["results"]["polish.loop"] == {"iterations": 2, "ended_by": "condition"}
    assert document["results"]["note"] == "https://example.org/ferry/pull/12 is merged: fine"


def test_a_review_that_nobody_answers_is_closed_after_a_week(run: Any) -> None:
    document = run("review", "review_agents")

    assert document["results"]["note"] == "https://example.org/ferry/pull/12 is closed: nobody had time"
    assert 604_800 <= document["duration_seconds"] < 604_810


def test_a_decision_without_what_its_form_requires_does_not_count(run: Any) -> None:
    document = run("review", "review_agents", "--decide", "opinion=merge")

    assert document["results"]["outcome"] == "closed"
    assert "--decide opinion=merge does not count" in document["printed"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("release", "is not TASK=DECISION"),
        ("release={", "is not JSON"),
        ('release={"data": 1}', "has no `decision`"),
        ('release={"decision": "approve", "dat": 1}', "has the unknown field 'dat'"),
    ],
)
def test_a_decision_that_cannot_be_read_is_refused_before_the_run(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, text: str, said: str
) -> None:
    monkeypatch.chdir(EXAMPLES)

    assert main(["run", "step_wait.yaml", "--embedded", "--decide", text]) == 2
    assert said in capsys.readouterr().err
