"""The execution engine that the parts of a process share."""

from __future__ import annotations

from pathlib import Path

from anabranch.core.errors import Misconfigured
from anabranch.execution.engine import TaskExecutionEngine
from anabranch.tasks.system import default_system

DATABASE_FILE = "anabranch.db"

_engines: list[TaskExecutionEngine] = []


def get_task_execution_engine(
    max_concurrent_executions: int | None = None,
    scheduler_interval: float = 5,
    data_dir: str | Path | None = None,
    dagger_config_path: str | None = None,
    templates_dir: str | Path | None = None,
) -> TaskExecutionEngine:
    """The execution engine of this process, which executes the tasks of `get_task_manager()`. It is made at the
    first call; the arguments of later calls have no effect.

    Args:
        max_concurrent_executions: by default ANABRANCH_MAX_CONCURRENT_EXECUTIONS.
        scheduler_interval: has no effect: what may start does so at once.
        data_dir: folder of the database, a SQLite file. It has to be named before tasks are created; by default
            ANABRANCH_DATABASE_URL names the database, else it is in memory.
        dagger_config_path: refused, because Dagger is not supported.
        templates_dir: see `TaskExecutionEngine`.

    Raises:
        Misconfigured: an argument cannot be followed.
    """
    if not _engines:
        if dagger_config_path is not None:
            raise Misconfigured("dagger_config_path", "there is no executor for Dagger", "leave it out")
        if data_dir is not None:
            folder = Path(data_dir)
            folder.mkdir(parents=True, exist_ok=True)
            default_system().use_database(f"sqlite:///{(folder / DATABASE_FILE).resolve()}")
        _engines.append(
            TaskExecutionEngine(
                system=default_system(),
                max_concurrent_executions=max_concurrent_executions,
                templates_dir=templates_dir,
            )
        )
    return _engines[0]
