"""Whoever ends limited jobs lets the next ones through with that: never too many, and he waits for nobody."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from typing import TYPE_CHECKING
from uuid import UUID

import asyncpg
import pytest
from kit import inside
from kit.faults import Ghost, until_blocked

from pgqueue import PgQueue
from pgqueue.store import Settled

if TYPE_CHECKING:
    from conftest import Connection

pytestmark = [pytest.mark.contract("P3.13"), pytest.mark.contract("P5.10")]


async def enqueue(pgq: PgQueue, name: str, calls: int, *, keys: int = 1) -> list[UUID]:
    """Enqueue calls of a task of one slot a key, or of an ordered group."""
    if name == "ordered":

        @pgq.task(name=name, ordered_by="key")
        async def ordered(key: int) -> None: ...

    else:

        @pgq.task(name=name, limits=[pgq.limit(name, slots=2 if name == "pair" else 1).by("key")])
        async def limited(key: int) -> None: ...

    return [
        UUID(str(job.id))
        for job in await pgq.enqueue_many([pgq.signature(name, n % keys) for n in range(calls)])
    ]


async def finish(holder: Ghost, ids: Sequence[UUID], *, hands_over: bool = True) -> Settled:
    settled = Settled()
    given = settled if hands_over else None
    await holder.store.finish(holder.connection, holder.lease_id, holder.name, ids, None, given)
    return settled


async def attend(holder: Ghost) -> None:
    while (await holder.store.attend(holder.connection, None, 1000)).taken:
        pass


async def places(db: Connection, ids: Sequence[UUID]) -> list[str]:
    return [str(await db.fetchval("select pgqueue.status_of($1)::text", job_id)) for job_id in ids]


@pytest.mark.parametrize("name", ["single", "pair", "ordered"])
async def test_the_next_job_is_ready_with_the_end_of_the_one_before(
    pgq: PgQueue, db: Connection, holder: Ghost, name: str
) -> None:
    ids = await enqueue(pgq, name, 4)
    await attend(holder)
    running = [job.id for job in await holder.claim()]

    settled = await finish(holder, running[:1])

    assert (settled.notes, len(settled.own)) == ([], 1)
    assert await db.fetchval("select count(*) from pgqueue.note") == 0
    assert (await places(db, ids)).count("pending") == 1
    assert [job.id for job in await holder.claim()] == [ids[len(running)]]


@pytest.mark.parametrize("name", ["single", "pair", "ordered"])
async def test_an_end_waits_for_nobody_who_is_at_the_gate(
    pgq: PgQueue, db: Connection, holder: Ghost, name: str
) -> None:
    ids = await enqueue(pgq, name, 4)
    await attend(holder)
    running = [job.id for job in await holder.claim()]

    async with db.transaction():
        await db.execute("select from pgqueue.gate for update")
        async with asyncio.timeout(60):
            settled = await finish(holder, running)

        assert (len(settled.notes), settled.own) == (1, set())
        assert await places(db, ids[len(running) :]) == ["blocked"] * (4 - len(running))

    await attend(holder)
    assert (await places(db, ids)).count("pending") == len(running)


@pytest.mark.parametrize("name", ["single", "ordered"])
async def test_a_transaction_that_goes_on_holds_no_gate(
    pgq: PgQueue, db: Connection, holder: Ghost, name: str
) -> None:
    await enqueue(pgq, name, 2)
    await attend(holder)
    running = [job.id for job in await holder.claim()]

    async with holder.connection.transaction():
        await finish(holder, running, hands_over=False)

        assert (
            await db.fetchval(
                "select count(*) from (select from pgqueue.gate for update skip locked) as free"
            )
            == 1
        )


@pytest.mark.parametrize("name", ["single", "ordered"])
async def test_nothing_is_let_through_into_a_paused_queue(
    pgq: PgQueue, db: Connection, holder: Ghost, name: str
) -> None:
    ids = await enqueue(pgq, name, 3)
    await attend(holder)
    running = [job.id for job in await holder.claim()]
    await pgq.pause(queue="default")

    await finish(holder, running)
    await attend(holder)
    assert await places(db, ids) == ["succeeded", "blocked", "blocked"]

    await pgq.resume(queue="default")
    await attend(holder)
    assert await places(db, ids) == ["succeeded", "pending", "blocked"]


@pytest.mark.parametrize(("name", "slots"), [("single", 1), ("pair", 2), ("ordered", 1)])
async def test_several_that_end_jobs_of_the_same_keys_at_once_let_through_as_many_as_there_is_room_for(
    pgq: PgQueue, db: Connection, holder: Ghost, name: str, slots: int
) -> None:
    draw = random.Random(7)
    await enqueue(pgq, name, 120, keys=4)
    await attend(holder)
    others = [await inside.database(pgq).connect(durable=True) for _ in range(3)]
    count = "select count(*) from pgqueue.job where status = 'succeeded'"

    async def work(connection: asyncpg.Connection[asyncpg.Record]) -> None:
        worker = Ghost(connection, holder.name)
        worker.lease_id = holder.lease_id
        while await db_count() < 120:
            jobs = [job.id for job in await worker.claim(draw.randint(1, 5))]
            await asyncio.sleep(draw.random() / 200)
            settled = await finish(worker, jobs) if jobs else Settled()
            notes = settled.notes
            while notes:
                notes = list((await worker.store.attend(connection, notes, 1000)).more)

    async def db_count() -> int:
        async with turn:
            over = await db.fetch(
                "select arguments ->> 'key' from pgqueue.job join pgqueue.running on job_id = id "
                "group by 1 having count(*) > $1 "
                "union all select gate::text from pgqueue.gate_pass group by gate having count(*) > $1",
                slots,
            )
            assert over == []
            return int(await db.fetchval(count))

    turn = asyncio.Lock()
    try:
        async with asyncio.timeout(180):
            await asyncio.gather(*(work(connection) for connection in others))
    finally:
        for connection in others:
            await connection.close()

    assert await db.fetchval("select count(*) from pgqueue.gate_pass") == 0
    assert await db.fetchval("select coalesce(sum(in_use), 0) from pgqueue.gate_state") == 0


@pytest.mark.parametrize("name", ["single", "ordered"])
@pytest.mark.parametrize(
    ("move", "becomes"),
    [("transition($1, 'failed')", "failed"), ("cancel($1)", "cancelled"), ("reprioritise($1, 5)", "pending")],
)
async def test_who_moves_a_job_by_hand_finds_it_although_it_is_let_through_just_then(
    pgq: PgQueue, db: Connection, holder: Ghost, name: str, move: str, becomes: str
) -> None:
    ids = await enqueue(pgq, name, 2)
    await attend(holder)
    running = [job.id for job in await holder.claim()]

    async with holder.connection.transaction():
        await finish(holder, running)
        moving = asyncio.create_task(db.execute(f"-- move: by hand\nselect pgqueue.{move}", ids[1]))
        await until_blocked(pgq, "move")
    await moving

    assert await places(db, ids) == ["succeeded", becomes]
