"""Schedules over every kind of session: of three roles, a pooler, an isolation, and processes that die."""

from __future__ import annotations

import asyncio
import signal
from datetime import timedelta
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from kit.processes import DEADLINE, processes_in
from kit.roles import roles_of
from kit.servers import needed_pgbouncer, pgbouncer
from kit.waiting import eventually

from pgqueue import MissingPrivilegeError, PgQueue

if TYPE_CHECKING:
    from conftest import Connection

pytestmark = pytest.mark.contract("P8.10")

SECOND = timedelta(seconds=1)


async def count_ticks(pgq: PgQueue, name: str) -> int:
    return len(await pgq.schedules.history(name))


async def test_each_role_sees_and_operates_schedules_as_far_as_it_may(
    pgq: PgQueue, superuser_dsn: str
) -> None:
    await pgq.schedules.create("hourly", pgq.signature("add", 1, 2), every=3600)
    async with roles_of(superuser_dsn) as roles:
        for role, reads, changes in (
            ("worker", True, True),
            ("read", True, False),
            ("enqueue", False, False),
        ):
            async with PgQueue(roles.dsn_of(role)) as theirs:
                schedules = theirs.schedules
                call = theirs.signature("add", 1, 2)
                for may, use in (
                    (reads, schedules.list),
                    (reads, lambda s=schedules: s.get("hourly")),
                    (reads, lambda s=schedules: s.history("hourly")),
                    (changes, lambda s=schedules: s.pause("hourly")),
                    (changes, lambda s=schedules: s.resume("hourly")),
                    (changes, lambda s=schedules: s.run_now("hourly")),
                    (changes, lambda s=schedules: s.edit("hourly", every=7200)),
                    (changes, lambda s=schedules, c=call: s.create("made", c, every=60)),
                    (changes, lambda s=schedules: s.delete("made")),
                ):
                    if may:
                        await use()
                    else:
                        with pytest.raises(MissingPrivilegeError):
                            await use()

        async with PgQueue(roles.dsn_of("worker")) as theirs:

            @theirs.schedule(every=1)
            @theirs.task
            async def tick_by_role() -> None: ...

            async with theirs.worker():
                await eventually(lambda: _has(theirs, "tick_by_role", 2))


async def _has(pgq: PgQueue, name: str, ticks: int) -> bool:
    return any(each.name == name for each in await pgq.schedules.list()) and (
        await count_ticks(pgq, name) >= ticks
    )


@pytest.mark.contract("P8.10", "BP15")
@pytest.mark.parametrize("way", ["pooler", "repeatable read"])
async def test_schedules_tick_and_are_operated_over_every_session(
    pgq: PgQueue, db: Connection, dsn: str, superuser_dsn: str, way: str
) -> None:
    async def use(reached: str) -> None:
        async with PgQueue(reached) as other:

            @other.schedule(every=1, overlap="skip")
            @other.task(queue="new")
            async def often() -> None: ...

            async with other.worker(), other.worker():
                await eventually(lambda: _has(other, "often", 3))
                assert await other.schedules.pause("often")
                assert await other.schedules.resume("often")
                assert (await other.schedules.edit("often", every=3600)).edited_at is not None
                assert await other.schedules.delete("often")

    if way == "pooler":
        with pgbouncer(needed_pgbouncer(), dsn) as pooled:
            await use(pooled)
    else:
        name = await db.fetchval("select current_database()")
        await db.execute(f"alter database {name} set default_transaction_isolation to 'repeatable read'")
        await use(dsn)


async def test_workers_that_are_killed_lose_no_tick_and_make_none_twice(
    pgq: PgQueue, db: Connection, dsn: str, tmp_path: Path
) -> None:
    await pgq.schedules.create("often", pgq.signature("add", 1, 2), every=1, misfire="all")
    with processes_in(tmp_path, dsn) as processes:
        for round_ in range(3):
            workers = [processes.start("worker", "jobs_here:pgq") for _ in range(2)]
            before = await count_ticks(pgq, "often")
            await eventually(partial(_has, pgq, "often", before + 2))
            for worker in workers[: 1 if round_ == 0 else 2]:
                worker.send_signal(signal.SIGKILL)
                await asyncio.to_thread(worker.wait, DEADLINE)
        last = processes.start("worker", "jobs_here:pgq")
        before = await count_ticks(pgq, "often")
        await eventually(lambda: _has(pgq, "often", before + 2))
        last.send_signal(signal.SIGKILL)
        await asyncio.to_thread(last.wait, DEADLINE)
    ticks = await db.fetch("select at, job_id from pgqueue.tick order by at")
    gaps = {after["at"] - each["at"] for each, after in pairwise(ticks)}
    assert gaps == {SECOND}
    assert await db.fetchval("select count(*) from pgqueue.job where task = 'add'") == len(ticks)
    assert len({each["job_id"] for each in ticks}) == len(ticks)
