"""A call whose answer is lost, or whose program is killed, leaves a job and its key, or neither."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from kit import inside
from kit.faults import Ghost, ghost, lossy_proxy, until_blocked
from kit.keys import JOBS, KEYS, declare_work
from kit.waiting import eventually

from pgqueue import PgQueue, Task
from pgqueue.enqueueing.idempotency import key_id
from pgqueue.store import KeyRow

if TYPE_CHECKING:
    from conftest import Connection


@pytest.fixture
def work(pgq: PgQueue) -> Task[[int], int]:
    """A task of one argument."""
    return declare_work(pgq)


@pytest.mark.contract("P1.5", "P1.6", "P3.2")
@pytest.mark.parametrize("lost", ["take_keys", "enqueue_one", None])
async def test_a_lost_answer_makes_no_second_job_and_hides_no_first(
    dsn: str, db: Connection, lost: str | None
) -> None:
    async with lossy_proxy(dsn) as proxy, PgQueue(proxy.dsn) as pgq:
        work = declare_work(pgq)
        held = await work.options(idempotency_key="held").enqueue(0)
        await held.cancel()
        if lost is None:
            proxy.lose_text("COMMIT", is_carried_out=True)
        else:
            # Prepared already, and named no more: a connection of its own will prepare it again.
            await inside.database(pgq).close()
            await inside.database(pgq).open()
            proxy.lose_answer_to(lost)

        handles = await pgq.enqueue_many(
            [
                work.options(idempotency_key="new").s(1),
                work.options(idempotency_key="held").s(0),
                work.options(idempotency_key="new").s(1),
            ]
        )

        assert proxy.lost.is_set()
        assert [handle.created for handle in handles] == [True, False, False]
        assert [handle.id for handle in handles] == [handles[0].id, held.id, handles[0].id]
    assert await db.fetchval(JOBS) == 2
    assert await db.fetchval(KEYS) == 2


@pytest.mark.contract("P1.5", "P3.2")
async def test_a_job_that_ran_before_its_call_was_repeated_is_still_the_calls(
    dsn: str, db: Connection
) -> None:
    async with lossy_proxy(dsn) as proxy, PgQueue(proxy.dsn) as pgq, PgQueue(dsn) as other:
        work, same_work = declare_work(pgq), declare_work(other)
        options: Any = {"idempotency_key": "order-7", "idempotency_while": "pending"}
        # Opens the connection that is to be lost.
        await (await work.enqueue(0)).cancel()
        proxy.lose_text("COMMIT", is_carried_out=True)
        proxy.hold()

        async with asyncio.TaskGroup() as group:
            first = group.create_task(work.options(**options).enqueue(1))
            await proxy.lost.wait()
            # The job was committed, runs, and another takes the key before the first caller asks again.
            async with ghost(other) as holder:
                await eventually(lambda: has_claimed(holder))
                second = await same_work.options(**options).enqueue(1)
            proxy.let_go()

    assert (first.result().created, second.created) == (True, True)
    assert first.result().id != second.id
    assert await db.fetchval(JOBS) == 3


@pytest.mark.contract("P1.5", "P3.2")
async def test_a_key_that_a_call_has_itself_is_its_own_again(pgq: PgQueue) -> None:
    # A commit that was sent can come to pass after the call is made again.
    job_id, other_id = uuid4(), uuid4()
    key = KeyRow(key_id("global", "k"), "global", "k", job_id, "window", None, 60.0)

    async with inside.database(pgq).acquire() as connection:
        first = await inside.store(pgq).take_keys(connection, [key])
        again = await inside.store(pgq).take_keys(connection, [key])
        others = await inside.store(pgq).take_keys(connection, [key._replace(job_id=other_id)])

    assert (first, again, others) == ({key.id}, {key.id}, set())


async def has_claimed(holder: Ghost) -> bool:
    return len(await holder.claim()) == 1


KILLED = """
import asyncio, sys
from pgqueue import PgQueue

async def main():
    pgq = PgQueue(sys.argv[1])

    @pgq.task
    async def work(number: int) -> None: ...

    async with pgq:
        await work.options(idempotency_key="warm").enqueue(1)
        print("ready", flush=True)
        sys.stdin.readline()
        await work.options(idempotency_key="order-7").enqueue(1)
        print("done", flush=True)
        sys.stdin.readline()

asyncio.run(main())
"""


@pytest.mark.contract("P3.2", "P1.5")
@pytest.mark.parametrize("statement", ["take_keys", "enqueue_one", None])
async def test_a_caller_that_is_killed_leaves_both_key_and_job_or_neither(
    work: Task[[int], int], pgq: PgQueue, dsn: str, db: Connection, statement: str | None
) -> None:
    table = {"take_keys": "idempotency_key", "enqueue_one": "ready"}.get(statement or "")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", KILLED, dsn, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert await process.stdout.readline() == b"ready\n"

    async with db.transaction():
        if table is not None:
            # The statement stops here, in its middle; what came before it has been answered.
            await db.execute(f"lock table pgqueue.{table} in share mode")
        process.stdin.write(b"\n")
        if statement is None:
            assert await process.stdout.readline() == b"done\n"
        else:
            await until_blocked(pgq, statement)
        process.kill()
        await process.wait()
    process.stdin.close()
    if statement is not None:
        # The statement is carried out, and the transaction ends with its connection.
        await eventually(lambda: is_quiet(db))

    again = await work.options(idempotency_key="order-7").enqueue(1)

    assert again.created is (statement is not None)
    assert await db.fetchval(JOBS) == await db.fetchval(KEYS) == 2


async def is_quiet(db: Connection) -> bool:
    return bool(
        await db.fetchval(
            "select count(*) = 0 from pg_stat_activity "
            "where datname = current_database() and xact_start is not null and pid <> pg_backend_pid()"
        )
    )
