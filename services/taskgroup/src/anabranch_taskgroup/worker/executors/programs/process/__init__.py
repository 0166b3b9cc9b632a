"""Runs programs as processes of the worker."""

from __future__ import annotations

from anabranch.runtime.process.settings import Settings
from anabranch_taskgroup.worker.executors.programs.engine import ProgramEngine
from anabranch_taskgroup.worker.executors.programs.process.engine import ProcessEngine


def open_engine(settings: Settings) -> ProgramEngine:
    """The engine of processes. It has no settings of its own."""
    return ProcessEngine()
