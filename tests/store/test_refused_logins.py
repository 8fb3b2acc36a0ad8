"""While the server lets nobody in, what is connected goes on, and what needs a connection waits for one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from urllib.parse import urlsplit

import anyio
import asyncpg
import pytest
from kit import inside
from kit.faults import attempt_reasons
from kit.servers import CrashableServer, crashable_server
from kit.waiting import eventually, holds

from pgqueue import DatabaseUnavailableError, JobContext, PgQueue, PgQueueError

CALLERS = 3
ENDED = "select status is not null from pgqueue.job where id = $1"
SESSIONS = "select count(*) from pg_stat_activity where usename = 'app'"
END_THE_LEASE_KEEPERS = """
    select pg_terminate_backend(pid, 5000) from pg_locks
    where locktype = 'advisory'
      and database = (select datid from pg_stat_activity where pid = pg_backend_pid())
"""


@dataclass(frozen=True)
class Gate:
    """A way to refuse logins: statements, or a rule of pg_hba.conf, and statements that end it."""

    begin: str
    end: str
    rule: str = "scram-sha-256"


GATES = {
    "another password": Gate("alter role app password 'two'", "alter role app password 'one'"),
    "a rule of pg_hba.conf": Gate("select", "select", rule="reject"),
    "another name of the database": Gate(
        "update pg_database set datname = 'renamed' where datname = 'work'",
        "update pg_database set datname = 'work' where datname = 'renamed'",
    ),
    "no more connections of the role": Gate(
        "alter role app connection limit 1", "alter role app connection limit -1"
    ),
    "no right to connect": Gate(
        "revoke connect on database work from public, app", "grant connect on database work to app"
    ),
    "no login": Gate("alter role app nologin", "alter role app login"),
}


@pytest.fixture(scope="module")
def server() -> Iterator[CrashableServer]:
    with crashable_server() as server:
        anyio.run(server.ensure_started)
        yield server


@pytest.fixture
async def root(server: CrashableServer) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    """A superuser's connection to a new database of the role `app`."""
    first = await asyncpg.connect(server.dsn)
    await first.execute("drop database if exists work with (force)")
    if not await first.fetchval("select exists (select from pg_roles where rolname = 'app')"):
        await first.execute("create role app login")
    await first.execute("alter role app login password 'one' connection limit -1")
    await first.execute("create database work owner app")
    await first.execute("grant set on parameter pgqueue.writer to app")
    await set_rule(server, first, "scram-sha-256")
    await first.close()
    root = await asyncpg.connect(server.dsn, database="work")
    await PgQueue(app_dsn(server)).migrate()
    yield root
    await root.close()


def app_dsn(server: CrashableServer) -> str:
    return urlsplit(server.dsn)._replace(netloc="app:one@", path="/work").geturl()


async def set_rule(server: CrashableServer, root: asyncpg.Connection[asyncpg.Record], method: str) -> None:
    rules = server.data / "pg_hba.conf"
    kept = [line for line in rules.read_text().splitlines() if " app " not in line]
    rules.write_text("\n".join([f"local all app {method}", *kept, ""]))
    await root.execute("select pg_reload_conf()")
    await eventually(
        lambda: holds_in(
            root, f"select auth_method = '{method}' from pg_hba_file_rules where 'app' = any(user_name)"
        )
    )


async def holds_in(root: asyncpg.Connection[asyncpg.Record], query: str, *values: object) -> bool:
    return bool(await root.fetchval(query, *values))


async def refuses(server: CrashableServer) -> bool:
    try:
        await (await asyncpg.connect(app_dsn(server))).close()
    except asyncpg.PostgresError:
        return True
    return False


@pytest.mark.contract("F1")
@pytest.mark.parametrize("kind", GATES)
async def test_a_refused_login_ends_no_worker_loses_no_job_and_stops_nothing_that_is_connected(
    server: CrashableServer, root: asyncpg.Connection[asyncpg.Record], kind: str
) -> None:
    gate = GATES[kind]
    started, go_on = asyncio.Event(), asyncio.Event()
    pgq = PgQueue(app_dsn(server), connect_timeout=15.0)

    @pgq.task
    async def double(number: int) -> int:
        return 2 * number

    @pgq.task
    async def long() -> None:
        started.set()
        await go_on.wait()

    @pgq.task
    async def pay(ctx: JobContext) -> None:
        async with ctx.transaction() as connection:
            await connection.execute("select 1")

    @pgq.task
    async def in_steps(ctx: JobContext) -> int:
        return int(await ctx.step("one", double_it, 21))

    async def renewals(count: int) -> None:
        for _ in range(count):
            before = await root.fetchval("select renewed_at from pgqueue.lease")
            await eventually(
                lambda: holds_in(root, "select renewed_at > $1 from pgqueue.lease", before)  # noqa: B023
            )

    # Long enough for a machine on which a login that is refused takes seconds.
    async with pgq, pgq.worker(lease_ttl=6) as worker:
        assert await (await double.enqueue(1)).result(timeout=60) == 2
        running = await long.enqueue()
        await started.wait()
        lease = await root.fetchval("select id from pgqueue.lease")

        await root.execute(gate.begin)
        await set_rule(server, root, gate.rule)
        try:
            await eventually(lambda: refuses(server))
            # The one connection that nothing but a login brings back.
            await root.execute(END_THE_LEASE_KEEPERS)
            waiting = [await pay.enqueue(), await in_steps.enqueue()]
            for number in range(3):
                assert await (await double.enqueue(number)).result(timeout=60) == 2 * number
            # Longer than the lease, and than peers wait for a process that holds no lock.
            await renewals(4)
            with pytest.raises(DatabaseUnavailableError):
                await PgQueue(app_dsn(server), connect_timeout=1.0).open()
            assert worker.is_consuming
        finally:
            await root.execute(gate.end)
            await set_rule(server, root, "scram-sha-256")
        go_on.set()
        async with asyncio.timeout(10):
            for job in (running, *waiting):
                await job.result()
        assert await root.fetchval("select id from pgqueue.lease") == lease
        assert await root.fetch("select reason from pgqueue.attempt") == []


def double_it(number: int) -> int:
    return 2 * number


@pytest.mark.contract("F1")
async def test_a_worker_that_ends_while_logins_are_refused_returns_its_jobs_to_the_queue(
    server: CrashableServer, root: asyncpg.Connection[asyncpg.Record]
) -> None:
    pgq = PgQueue(app_dsn(server), connect_timeout=15.0)
    started = asyncio.Event()

    @pgq.task
    async def long() -> None:
        started.set()
        await anyio.sleep_forever()

    async with pgq:
        worker = pgq.worker(grace=0.0, cancel_grace=0.5)
        worker.start()
        job = await long.enqueue()
        await started.wait()
        await root.execute("alter role app password 'two'")
        inside.cancel_worker(worker)
        with pytest.raises(PgQueueError, match="was cancelled"):
            await worker.wait_stopped()
        assert await root.fetchval("select count(*) from pgqueue.ready where job_id = $1", job.id) == 1
        assert await root.fetchval("select count(*) from pgqueue.lease") == 0
        # Which is no loss, and does not count.
        assert await root.fetchval("select array_agg(reason) from pgqueue.attempt") == ["released"]
        await root.execute("alter role app password 'one'")


@pytest.mark.contract("F4")
async def test_jobs_that_get_no_connection_wait_for_one_and_use_up_no_retries(
    server: CrashableServer, root: asyncpg.Connection[asyncpg.Record]
) -> None:
    pgq = PgQueue(app_dsn(server), connect_timeout=15.0, max_connections=CALLERS)
    at_once: list[int] = []

    @pgq.task(max_retries=0)
    async def pay(ctx: JobContext, number: int) -> int:
        async with ctx.transaction() as connection:
            at_once.append(number)
            await connection.execute("select pg_sleep(0.02)")
        return number

    @pgq.task(max_retries=0)
    async def in_steps(ctx: JobContext, number: int) -> int:
        return int(await ctx.step("one", double_it, number))

    async with pgq, pgq.worker():
        await (await in_steps.enqueue(0)).result(timeout=60)
        # Callers use all that they may have, and there is none for anybody's transaction.
        async with AsyncExitStack() as held:
            for _ in range(CALLERS):
                await held.enter_async_context(inside.database(pgq).acquire())
            first = await root.fetchval(SESSIONS)
            await root.execute(f"alter role app connection limit {first}")
            jobs = [await task.enqueue(number) for number in range(20) for task in (pay, in_steps)]
            await eventually(lambda: holds_in(root, "select count(*) > 3 from pgqueue.running"))
            assert at_once == []
        # Those that callers leave idle are for the jobs, and come back to callers once the jobs do.
        for job in jobs:
            await job.result(timeout=60)
        for job in await asyncio.gather(*(in_steps.enqueue(number) for number in range(CALLERS))):
            await job.result(timeout=60)
        assert await root.fetchval(SESSIONS) <= first
        assert await root.fetch("select reason from pgqueue.attempt") == []
        await root.execute("alter role app connection limit -1")


@pytest.mark.contract("F1", "P2.7")
async def test_what_a_blocked_worker_holds_is_returned_where_the_server_refuses_another_login(
    root: asyncpg.Connection[asyncpg.Record], server: CrashableServer
) -> None:
    settled: list[str] = []
    neighbour_started = asyncio.Event()

    async with PgQueue(app_dsn(server), connect_timeout=15.0) as pgq:
        # It has not begun to block before the password is another one.
        @pgq.task(timeout=5, max_retries=0)
        async def block() -> None:
            await neighbour_started.wait()
            await root.execute(GATES["another password"].begin)
            deadline = time.monotonic() + 120
            while not settled and time.monotonic() < deadline:
                time.sleep(0.01)  # noqa: ASYNC251  # what this test is about

        @pgq.task
        async def neighbour() -> None:
            neighbour_started.set()
            await asyncio.sleep(3600)

        blocking, beside = await pgq.enqueue_many([block.s(), neighbour.s()])
        async with pgq.worker(lease_ttl=30) as worker:

            def note() -> None:
                settled.append("settled")

            worker.recycle = note
            await eventually(lambda: holds(bool(settled)))
            assert await holds_in(root, ENDED, blocking.id)
            await root.execute(GATES["another password"].end)
            reasons = await attempt_reasons(pgq, beside.id)
            worker.release()

    assert settled
    assert reasons == ["released"]
