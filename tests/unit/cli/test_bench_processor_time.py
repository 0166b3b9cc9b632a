"""Processor time of processes and their children: parsed, summed by tree, and read from this machine."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from anabranch.cli.bench.processor_time import (
    POLL_SECONDS,
    ProcessStat,
    idle_processor_seconds,
    is_idle,
    names_of,
    parse_stat,
    process_name,
    processor_seconds,
    tree_seconds,
)
from anabranch.cli.bench.runs import per_run
from anabranch.core.errors import Misconfigured

STAT = "42 (a (b) c) {state} 7 42 42 0 -1 4194560 100 200 0 0 100 20 3 4 20 0 1 0 300 400 500"


def test_a_stat_is_parsed_whatever_the_name_of_the_program() -> None:
    assert parse_stat(STAT.format(state="S"), 0.01) == ProcessStat(42, 7, pytest.approx(1.27))
    assert parse_stat(STAT.format(state="Z"), 0.01).ended


def test_a_process_has_the_time_of_its_descendants_but_not_that_of_another_root() -> None:
    stats = [
        ProcessStat(*each)
        for each in [(1, 0, 9.0), (2, 1, 1.0), (3, 2, 0.5), (4, 3, 0.25), (5, 1, 4.0), (6, 3, 2.0)]
    ]

    assert tree_seconds([2], stats) == {2: 3.75}
    assert tree_seconds([2, 3, 5], stats) == {2: 1.0, 3: 2.75, 5: 4.0}


@pytest.mark.parametrize("ended", [[], [ProcessStat(2, 1, 1.0, ended=True)]])
def test_a_root_that_does_not_run_is_an_error(ended: list[ProcessStat]) -> None:
    with pytest.raises(KeyError):
        tree_seconds([2], [ProcessStat(1, 0, 9.0), *ended])


def test_processes_are_idle_if_they_use_little_of_a_core_together() -> None:
    assert is_idle({1: 1.0, 2: 5.0}, {1: 1.0, 2: 5.04}, 0.5)
    assert not is_idle({1: 1.0, 2: 5.0}, {1: 1.03, 2: 5.03}, 0.5)


def test_a_process_is_named_after_its_service() -> None:
    lines = [
        "python\0-m\0anabranch\0agency\0",
        "/v/bin/python\0/v/bin/anabranch\0taskgroup\0-v\0",
        "/v/bin/celery\0-A\0x\0",
    ]

    assert [process_name(line) for line in lines] == ["agency", "taskgroup", "celery"]


def test_the_time_of_each_run_is_summed_by_name() -> None:
    names = {1: "taskgroup", 2: "taskgroup", 3: "agency"}

    assert per_run({1: 1.0, 2: 2.0, 3: 3.0}, {1: 2.0, 2: 5.0, 3: 3.0}, names, 4) == {"taskgroup": 1.0, "agency": 0}
    assert per_run({}, {}, {}, 10) == {}


def test_this_process_has_the_time_of_its_children(tmp_path: Path) -> None:
    before = processor_seconds([os.getpid()])[os.getpid()]

    burn = "import time\nwhile time.process_time() < 0.2: pass"
    subprocess.run([sys.executable, "-c", burn], check=True)

    assert processor_seconds([os.getpid()])[os.getpid()] - before >= 0.15
    assert names_of([os.getpid()])[os.getpid()]


async def test_idle_processes_are_awaited() -> None:
    started = asyncio.get_running_loop().time()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as idle:
        used = await idle_processor_seconds([idle.pid])
        assert idle.stdin is not None
        idle.stdin.close()

    assert list(used) == [idle.pid]
    assert asyncio.get_running_loop().time() - started >= POLL_SECONDS


def test_a_machine_without_proc_is_named(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="where Linux reports processor time"):
        processor_seconds([1], tmp_path / "proc")
