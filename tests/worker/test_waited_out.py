"""Surprises of the server are waited out: by one job if about that one, by all if about all."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING
from uuid import uuid4

import anyio
import asyncpg
import pytest
from conftest import OWNER, with_role
from kit import inside
from kit.waiting import eventually, holds, over

from pgqueue import JobContext, JobHandle, JobStatus, PgQueue, SchemaError, SchemaLockedError, Task

if TYPE_CHECKING:
    from conftest import Connection

RAISE = """
    create function public.refuse() returns trigger language plpgsql set search_path to pg_catalog as $$ begin
        if new.task = 'refused' {when} then raise exception 'not today'; end if;
        return new;
    end $$;
    create trigger refuse before update on pgqueue.job for each row execute function public.refuse();
"""


@pytest.fixture
def work(pgq: PgQueue) -> Task[[int], int]:
    @pgq.task
    async def work(n: int) -> int:
        return n

    return work


def is_logged(caplog: pytest.LogCaptureFixture, text: str) -> Callable[[], bool]:
    return lambda: text in caplog.text


@pytest.mark.contract("W8")
async def test_a_trigger_that_refuses_one_job_leaves_the_others_alone(
    pgq: PgQueue, db: Connection, work: Task[[int], int]
) -> None:
    @pgq.task(name="refused")
    async def refused() -> int:
        return 1

    await db.execute(RAISE.format(when="and new.status = 'succeeded'"))
    async with pgq.worker() as worker:
        bad = await refused.enqueue()
        good = [await work.enqueue(n) for n in range(20)]
        assert [await job.result(timeout=60) for job in good] == list(range(20))
        late = await work.enqueue(20)
        await late.result(timeout=60)
        ended = await over(bad)
        assert worker.is_consuming

    assert (ended.status, ended.reason) == (JobStatus.FAILED, "unstorable_result")
    assert ended.error is not None
    assert "not today" in ended.error.message


@pytest.mark.contract("W7")
async def test_an_outcome_that_cannot_be_written_at_all_is_kept_until_it_can(
    pgq: PgQueue, db: Connection, work: Task[[int], int], caplog: pytest.LogCaptureFixture
) -> None:
    @pgq.task(name="refused")
    async def refused() -> int:
        return 1

    await db.execute(RAISE.format(when=""))
    async with pgq.worker():
        bad = await refused.enqueue()
        assert await (await work.enqueue(1)).result(timeout=60) == 1
        await eventually(lambda: holds(is_logged(caplog, "it is kept and tried again")()))
        await eventually(lambda: is_dropped(db, "trigger refuse on pgqueue.job"))
        ended = await over(bad)

    assert (ended.attempt, ended.losses) == (1, 0)
    assert caplog.text.count("it is kept and tried again") == 1


@pytest.mark.contract("W7")
async def test_a_worker_waits_while_it_lacks_a_privilege_and_says_what_for(
    pgq: PgQueue, db: Connection, work: Task[[int], int], caplog: pytest.LogCaptureFixture
) -> None:
    async with pgq.worker() as worker:
        await (await work.enqueue(0)).result(timeout=60)
        await db.execute("revoke select, insert, update, delete on pgqueue.ready from current_user")
        # By another role, in real life.
        await db.execute("grant insert on pgqueue.ready to current_user")
        job = await work.enqueue(1)
        await eventually(lambda: holds(is_logged(caplog, "permission denied for table ready")()))
        assert worker.is_alive
        await db.execute("grant select, insert, update, delete on pgqueue.ready to current_user")
        assert await job.result(timeout=60) == 1

    waits = [each for each in caplog.records if each.getMessage().startswith("claiming: waiting")]
    assert len([each for each in waits if each.levelno >= logging.WARNING]) <= 1


@pytest.mark.contract("W7")
async def test_a_locked_table_is_waited_for_and_the_lease_survives(
    pgq: PgQueue, db: Connection, work: Task[[int], int]
) -> None:
    async with pgq.worker(lease_ttl=6) as worker:
        await worker.wait_ready()
        lease = inside.lease_of(worker)
        async with db.transaction():
            await db.execute("lock table pgqueue.ready, pgqueue.scheduled, pgqueue.job in exclusive mode")
            enqueueing = asyncio.create_task(work.enqueue(1))
            await asyncio.sleep(7)  # longer than the lease
        assert await (await enqueueing).result(timeout=60) == 1
        assert inside.lease_of(worker) == lease


async def is_dropped(db: Connection, what: str) -> bool:
    """Drop *what*; return whether that went: the server ends who waits in a circle with the worker."""
    try:
        await db.execute(f"drop {what}")
    except asyncpg.DeadlockDetectedError:
        return False
    return True


@pytest.mark.contract("W7")
async def test_a_worker_outlives_a_schema_that_is_dropped_and_made_again(
    pgq: PgQueue, db: Connection, work: Task[[int], int]
) -> None:
    async with pgq.worker(lease_ttl=6) as worker:
        await (await work.enqueue(0)).result(timeout=60)
        await eventually(lambda: is_dropped(db, "schema pgqueue cascade"))
        await pgq.migrate()
        job: list[JobHandle[int]] = []

        async def is_enqueued() -> bool:
            try:
                job.append(await work.enqueue(1))
            except SchemaError:
                return False
            return True

        await eventually(is_enqueued)
        assert await job[0].result(timeout=60) == 1
        assert worker.is_alive


# The schema


@pytest.mark.contract("W7")
async def test_a_migration_says_for_whose_lock_it_waits_and_gives_up(
    empty_dsn: str, caplog: pytest.LogCaptureFixture
) -> None:
    holder = await asyncpg.connect(empty_dsn, server_settings={"application_name": "a forgotten shell"})
    try:
        await holder.execute("begin; select pg_advisory_xact_lock(hashtext('migrate ' || 'pgqueue'))")
        with pytest.raises(SchemaLockedError, match="a forgotten shell") as raised:
            await PgQueue(empty_dsn).migrate(lock_limit=3)
        assert f"process {holder.get_server_pid()}" in str(raised.value)
        assert "pg_advisory_xact_lock" in caplog.text
        await holder.execute("rollback")
        assert await PgQueue(empty_dsn).migrate(lock_limit=3)
    finally:
        await holder.close()


HIDDEN = {
    "without usage": ("revoke usage on schema pgqueue from current_user", "may not use schema 'pgqueue'"),
    "hidden rows": (
        "alter table pgqueue.migration enable row level security, force row level security",
        "row-level security hides the rows of schema 'pgqueue'",
    ),
}


@pytest.mark.contract("W7")
@pytest.mark.parametrize("how", HIDDEN)
async def test_a_schema_that_a_role_cannot_see_is_not_called_missing(
    dsn: str, db: Connection, how: str
) -> None:
    sql, message = HIDDEN[how]
    await db.execute(sql)
    with pytest.raises(SchemaError, match=message):
        await PgQueue(dsn).open()


@pytest.mark.contract("W7")
async def test_hidden_rows_are_told_of_and_nothing_is_put_right_for_them(
    dsn: str, db: Connection, caplog: pytest.LogCaptureFixture
) -> None:
    await db.execute(
        "alter table pgqueue.job enable row level security; alter table pgqueue.job force row level security"
    )
    async with PgQueue(dsn):
        assert "row-level security may hide rows of schema 'pgqueue' from this role, in job" in caplog.text


@pytest.mark.contract("W7")
@pytest.mark.parametrize("limit", [4, 5, 6, 8])
async def test_a_worker_works_with_the_connections_that_its_role_may_have(
    server: str, dsn: str, pgq: PgQueue, db: Connection, limit: int
) -> None:
    role = f"limited_{uuid4().hex[:8]}"
    root = await asyncpg.connect(server)
    await root.execute(f"create role {role} login password '{role}' connection limit {limit} in role {OWNER}")
    limited = PgQueue(with_role(dsn, role))

    @limited.task(max_retries=1, default_retry_delay=0)
    async def work(ctx: JobContext, n: int) -> int:
        if n == 7 and ctx.attempt == 1:
            raise ValueError(n)
        doubled = await ctx.step("double", partial(double, n))
        await (await work.options(delay=0.1, queue="other").enqueue(n)).cancel()
        return doubled

    try:
        async with limited, limited.worker(concurrency=5, lease_ttl=9) as worker:
            jobs = [await pgq.enqueue_by_name(work.name, n=n) for n in range(20)]
            jobs += [await pgq.enqueue_by_name(work.name, n=20, options={"delay": 1})]
            assert [await job.result(timeout=60) for job in jobs] == [2 * n for n in range(21)]
            assert worker.is_consuming
        assert await db.fetchval("select count(*) from pgqueue.attempt") == 1
    finally:
        await root.execute(f"drop role {role}")
        await root.close()


@pytest.mark.contract("W7")
async def test_those_that_wait_for_a_connection_which_the_server_refuses_take_turns(
    server: str, dsn: str
) -> None:
    role = f"limited_{uuid4().hex[:8]}"
    root = await asyncpg.connect(server)
    # One of them is there for the callers of what follows.
    await root.execute(f"create role {role} login password '{role}' connection limit 1 in role {OWNER}")
    limited = PgQueue(with_role(dsn, role))
    served: list[int] = []

    def in_turn() -> list[int]:
        """Return who was served once all five had been, some times: at first not all know that they wait."""
        often = [[n for n, who in enumerate(served) if who == caller][4:5] for caller in range(5)]
        return served[max(each[0] for each in often) :] if all(often) else []

    async def call(caller: int) -> None:
        while len(in_turn()) < 100:
            async with inside.database(limited).lend() as connection:
                await connection.execute("select")
                served.append(caller)

    try:
        async with limited, anyio.create_task_group() as group:
            for caller in range(5):
                group.start_soon(call, caller)
        gaps = [
            later - earlier
            for caller in range(5)
            for earlier, later in pairwise(n for n, who in enumerate(in_turn()) if who == caller)
        ]
        # Each is one of five.
        assert len(gaps) > 50
        assert max(gaps) <= 10
    finally:
        await root.execute(f"drop role {role}")
        await root.close()


async def double(n: int) -> int:
    return 2 * n


@pytest.mark.contract("W3")
@pytest.mark.parametrize("may", [True, False], ids=["may set it", "may not set it"])
async def test_triggers_fire_where_a_role_has_them_switched_off_or_open_says_so(
    server: str, dsn: str, caplog: pytest.LogCaptureFixture, may: bool
) -> None:
    role = f"replica_{uuid4().hex[:8]}"
    root = await asyncpg.connect(server)
    await root.execute(
        f"create role {role} login password '{role}' {'superuser' if may else ''} in role {OWNER};"
        f"alter role {role} set session_replication_role to replica"
    )
    try:
        async with PgQueue(with_role(dsn, role)) as pgq:
            assert ("triggers do not fire" in caplog.text) is not may
            if may:
                failing = pgq.task(name="failing", max_retries=0)(fail)
                async with pgq.worker():
                    assert (await over(await failing.enqueue())).status is JobStatus.FAILED
                assert len((await pgq.dead_letters()).letters) == 1
    finally:
        await root.execute(f"drop role {role}")
        await root.close()


async def fail() -> None:
    raise ValueError
