"""`python -m history_process URL`: projects the log of the tests into a database, and ends when it is read.

The log is made anew in each process, with the same records at the same offsets.
"""

from __future__ import annotations

import asyncio
import sys

from history_databases import projector, until_read
from history_records import history_log

from anabranch.adapters.sql.database import Database
from anabranch.adapters.sql.history_store import SqlHistoryStore
from anabranch_eventmanager import history_projector

COPIES = 150


class FixedClock:
    """Time that is the same in each process, as that of the records has to be."""

    def now(self) -> float:
        return 1_800_000_000.0

    def monotonic(self) -> float:
        return 0.0


async def main(url: str) -> None:
    """Project the whole log, in small transactions."""
    history_projector.BATCH = 10
    clock, database = FixedClock(), Database.open(url)
    log, store = await history_log(clock, COPIES), SqlHistoryStore(database, is_shared=True)
    async with projector(log, clock, store):
        await until_read(log, database)
    database.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
