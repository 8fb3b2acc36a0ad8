"""A DSN with several hosts: one that never answers is passed by, and a promoted standby is followed."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from urllib.parse import quote, urlsplit

import anyio
import asyncpg
import pytest
from kit import inside
from kit.servers import CrashableServer, Standby, crashable_server
from kit.waiting import eventually

from pgqueue import DatabaseUnavailableError, JobContext, PgQueue
from pgqueue.background import promotions

FOLLOWED_WITHIN = 10.0


@pytest.fixture(scope="module")
def server() -> Iterator[CrashableServer]:
    with crashable_server() as server:
        anyio.run(server.ensure_started)
        anyio.run(PgQueue(server.dsn).migrate)
        yield server


@asynccontextmanager
async def deaf_host() -> AsyncIterator[socket.socket]:
    """A host that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        yield listener


def has_called(listener: socket.socket) -> int:
    """Return how many connections were made to a deaf host."""
    listener.setblocking(False)  # its name says what
    calls = 0
    with suppress(BlockingIOError):
        while True:
            listener.accept()[0].close()
            calls += 1
    return calls


def dsn_of(*hosts: str, like: str, more: str = "") -> str:
    parts = urlsplit(like)
    return f"postgresql://postgres@/{parts.path.strip('/')}?host={','.join(map(quote, hosts))}{more}"


async def connected(stack: AsyncExitStack, dsn: str) -> asyncpg.Connection[asyncpg.Record]:
    """Connect until *stack* is left, however that is."""
    connection = await asyncpg.connect(dsn)
    stack.callback(connection.terminate)
    return connection


@pytest.mark.contract("F3")
async def test_a_first_host_that_never_answers_is_passed_by_and_asked_last_from_then_on(
    server: CrashableServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Whether it takes writes by now is asked for at once, and then every few seconds: not in this test.
    monkeypatch.setattr(promotions, "LOOK_EVERY", 3600.0)
    async with deaf_host() as deaf:
        host, port = deaf.getsockname()
        dsn = dsn_of(host, str(server.data), like=server.dsn, more=f"&port={port},5432")
        began = time.monotonic()
        async with PgQueue(dsn, connect_timeout=12.0) as pgq, pgq.worker():

            @pgq.task
            async def pay(ctx: JobContext) -> int:
                async with ctx.transaction() as connection:
                    return int(await connection.fetchval("select 1"))

            assert await (await pay.enqueue()).result(timeout=60) == 1
        # Half of the time once, and not once for each connection.
        assert time.monotonic() - began > 5.9
        assert has_called(deaf) <= 2


@pytest.mark.contract("F3")
async def test_a_frozen_primary_is_left_when_its_standby_is_promoted_and_a_standby_is_not_stayed_with(
    server: CrashableServer,
) -> None:
    async with Standby.of(server) as standby:
        both = str(server.data), str(standby.data)
        # The one that takes writes, wherever it is named.
        async with PgQueue(dsn_of(*reversed(both), like=server.dsn)) as pgq:
            first = await pgq.enqueue_by_name("other")
        pgq = PgQueue(dsn_of(*both, like=server.dsn))
        started, go_on = asyncio.Event(), asyncio.Event()

        @pgq.task
        async def double(number: int) -> int:
            return 2 * number

        @pgq.task
        async def long() -> None:
            started.set()
            await go_on.wait()

        async with pgq, pgq.worker() as worker:
            assert await (await double.enqueue(1)).result(timeout=60) == 2
            running = await long.enqueue()
            await started.wait()
            lease = inside.lease_of(worker)
            await standby.catch_up()
            server.freeze()
            try:
                await asyncio.sleep(0.5)
                await standby.promote()
                async with asyncio.timeout(FOLLOWED_WITHIN):
                    there = await asyncpg.connect(standby.dsn)
                    job_id = await there.fetchval("select pgqueue.enqueue('double', '[3]')")

                    async def has_ended() -> bool:
                        status = await there.fetchval("select status from pgqueue.job where id = $1", job_id)
                        return status is not None

                    await eventually(has_ended)
                    await there.close()
                    assert (await pgq.get(first.id)).task == "other"
                go_on.set()
                await running.result(timeout=60)
                assert inside.lease_of(worker) == lease
            finally:
                server.thaw()


@pytest.mark.contract("F14")
async def test_an_old_primary_that_takes_writes_is_left_within_10_s_and_not_used_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with crashable_server() as old:
        await old.start()
        await PgQueue(old.dsn).migrate()
        async with AsyncExitStack() as stack:
            stack.push_async_callback(old.crash)
            new = await stack.enter_async_context(Standby.of(old))
            dsn = dsn_of(str(old.data), str(new.data), like=old.dsn)
            pgq = PgQueue(dsn, connect_timeout=15.0)

            @pgq.task
            async def nothing() -> None:
                pass

            started, gate = asyncio.Event(), asyncio.Event()

            @pgq.task
            async def held() -> None:
                started.set()
                await gate.wait()

            async with pgq, pgq.worker() as worker:
                await (await nothing.enqueue()).result(timeout=60)
                ends_on_old = await held.enqueue()
                await started.wait()
                await new.catch_up()
                # Nobody has stopped the old one, and no connection fails.
                await new.promote()
                gate.set()
                there = await connected(stack, new.dsn)
                here = await connected(stack, old.dsn)

                async def sessions(admin: asyncpg.Connection[asyncpg.Record]) -> int:
                    return int(
                        await admin.fetchval(
                            "select count(*) from pg_stat_activity "
                            "where backend_type = 'client backend' and pid <> pg_backend_pid()"
                        )
                    )

                async def is_left() -> bool:
                    return await sessions(here) == 0

                async def has_ended_there() -> bool:
                    return bool(
                        await here.fetchval("select status from pgqueue.job where id = $1", ends_on_old.id)
                    )

                await eventually(has_ended_there)

                async with asyncio.timeout(FOLLOWED_WITHIN):
                    await eventually(is_left)
                await (await nothing.enqueue()).result(timeout=60)
                # Here it is still running, under a lease that lives on.
                await ends_on_old.result(timeout=60)
                assert "another server was promoted in its place" in caplog.text
                # Who knows the new one does not go back, and would rather wait.
                await there.execute(
                    "select pg_terminate_backend(pid) from pg_stat_activity "
                    "where backend_type = 'client backend' and pid <> pg_backend_pid()"
                )
                job = await nothing.enqueue()
                await job.result(timeout=60)
                assert await there.fetchval("select true from pgqueue.job where id = $1", job.id)
                # It looks at the other host every few seconds, for a moment.
                await eventually(is_left)
                await there.close()
                await new.crash()
                with pytest.raises(DatabaseUnavailableError, match="promoted in its place"):
                    await nothing.enqueue()
                assert await here.fetchval("select count(*) from pgqueue.job") == 2
                await here.close()
                await new.start()
                await (await nothing.enqueue()).result(timeout=60)
                assert worker.is_alive
