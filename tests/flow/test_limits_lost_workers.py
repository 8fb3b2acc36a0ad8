"""Limits whose workers are processes that are killed with SIGKILL, and limits for each role and isolation."""

from __future__ import annotations

import asyncio
import random
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from kit.app_for_tests import KEYED_SLOTS, QUEUE_SLOTS, make_tables, worker_process
from kit.faults import ghost
from kit.roles import roles_of
from kit.waiting import eventually, holds

from pgqueue import JobStatus, PgQueue

if TYPE_CHECKING:
    from conftest import Connection

JOBS = 60
KILLS = 3
WITHIN = 180.0

MOST_AT_ONCE = """
with stay as (
    select stay.key, stay.began_at, least(stay.ended_at, death.at) as ended_at
    from stay left join death on death.worker = stay.worker
)
select max(by_key), max(by_queue) from (
    select count(*) filter (where other.key = stay.key) as by_key, count(*) as by_queue
    from stay join stay as other
        on other.began_at <= stay.began_at and coalesce(other.ended_at, 'infinity') > stay.began_at
    group by stay.key, stay.began_at
) as seen
"""


@pytest.mark.contract("P3.13", "P2.18")
async def test_a_limit_holds_and_loses_no_slot_whoever_of_its_workers_is_killed(
    pgq: PgQueue, dsn: str, db: Connection
) -> None:
    await make_tables(db)
    dice = random.Random(13)
    with ExitStack() as processes:
        first = processes.enter_context(worker_process(dsn, name="w-0", queues=["narrow"], lease_ttl=30))
        await db.execute("select pgqueue.declare_limit('keyed', $1, 'wait')", KEYED_SLOTS)
        await db.execute("select pgqueue.declare_limit('queue/narrow', $1, 'wait')", QUEUE_SLOTS)
        keyed = pgq.limit("keyed", slots=KEYED_SLOTS)
        pgq.queue("narrow", slots=QUEUE_SLOTS)

        @pgq.task(name="stay", limits=[keyed.by("key")], queue="narrow", max_losses=100)
        async def stay(key: str) -> None: ...

        await pgq.enqueue_many([stay.s("abc"[number % 3]) for number in range(JOBS)])

        async def have_begun(least: int) -> bool:
            return bool(await db.fetchval("select count(*) >= $1 from stay", least))

        victim = first
        for kill in range(KILLS):
            name = f"w-{kill + 1}"
            other = processes.enter_context(worker_process(dsn, name=name, queues=["narrow"], lease_ttl=30))
            await eventually(lambda least=(kill + 1) * JOBS // 6: have_begun(least))  # type: ignore[misc]
            await asyncio.sleep(dice.random() * 0.05)
            victim.kill()
            await db.execute("insert into death (worker) values ($1)", f"w-{kill}")
            victim = other

        async def is_done() -> bool:
            return bool(
                await db.fetchval("select count(*) = $1 from pgqueue.job where status = 'succeeded'", JOBS)
            )

        await eventually(is_done, within=WITHIN)

        async def is_nothing_held() -> bool:
            held = await db.fetchval("select count(*) from pgqueue.gate_pass")
            return not held and {(each.in_use, each.waiting) for each in await pgq.limits()} == {(0, 0)}

        await eventually(is_nothing_held)

    by_key, by_queue = await db.fetchrow(MOST_AT_ONCE)  # type: ignore[misc]
    assert by_key == KEYED_SLOTS
    assert by_queue == QUEUE_SLOTS


@pytest.mark.contract("P3.13")
@pytest.mark.parametrize("isolation", ["read committed", "repeatable read", "serializable"])
async def test_each_role_keeps_to_limits_whatever_isolation_its_database_has_by_default(
    superuser_dsn: str, db: Connection, isolation: str
) -> None:
    running, most = 0, 0

    def declare(pgq: PgQueue) -> Any:
        one = pgq.limit("one", slots=2)

        @pgq.task(limits=[one.by("key")])
        async def work(key: str) -> None:
            nonlocal running, most
            running += 1
            most = max(most, running)
            with anyio.move_on_after(20):
                await eventually(lambda: holds(most >= 2))
            running -= 1

        return work

    await db.execute(
        "do $$ begin execute format('alter database %I set default_transaction_isolation to %L', "
        f"current_database(), '{isolation}'); end $$"
    )
    async with (
        roles_of(superuser_dsn) as roles,
        PgQueue(roles.dsn_of("enqueue")) as sender,
        PgQueue(roles.dsn_of("worker")) as one,
        PgQueue(roles.dsn_of("worker")) as two,
        PgQueue(roles.dsn_of("read")) as reader,
    ):
        work = declare(sender)
        declare(one)
        declare(two)
        handles = await sender.enqueue_many([work.s("a") for _ in range(20)])
        async with one.worker(poll_interval=0.1), two.worker(poll_interval=0.1):
            handles += [await work.enqueue("a") for _ in range(10)]
            await eventually(lambda: are_over(db, len(handles)))
        assert most == 2
        [limit] = await reader.limits()
        assert (limit.name, limit.in_use, limit.waiting) == ("one", 0, 0)
    assert await db.fetchval("select count(*) from pgqueue.gate_pass") == 0


async def are_over(db: Connection, count: int) -> bool:
    done = "select count(*) = $1 from pgqueue.job where status = 'succeeded'"
    return bool(await db.fetchval(done, count))


@pytest.mark.contract("P3.13")
async def test_what_a_worker_ends_that_knows_no_limits_is_found_by_the_sweep(
    pgq: PgQueue, db: Connection
) -> None:
    one = pgq.limit("one", slots=1)

    @pgq.task(limits=[one])
    async def work() -> None: ...

    async with ghost(pgq) as holder:
        held, waiting = [await work.enqueue() for _ in range(2)]
        await holder.claim()
        # As it did before there were limits: it gives nothing back.
        await holder.connection.execute("delete from pgqueue.running where job_id = $1", held.id)
        await holder.connection.execute(
            "update pgqueue.job set status = 'succeeded', completed_at = now() where id = $1", held.id
        )
        # And it promotes what has limits as if it had none.
        later = await work.options(delay=3600).enqueue()
        await holder.connection.execute(
            "with moved as (delete from pgqueue.scheduled where job_id = $1 returning job_id, lane) "
            "insert into pgqueue.ready (job_id, lane) select job_id, lane from moved",
            later.id,
        )
    async with pgq.worker():
        for handle in (waiting, later):
            await handle.result(timeout=180)

    assert await held.status() is JobStatus.SUCCEEDED
    [limit] = await pgq.limits()
    assert (limit.in_use, limit.waiting) == (0, 0)
