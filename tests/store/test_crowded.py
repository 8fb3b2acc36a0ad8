"""A server whose queue of notifications is full, or that has another password: jobs go on, or soon will."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import suppress
from urllib.parse import urlsplit

import anyio
import asyncpg
import pytest
from kit.servers import CrashableServer, crashable_server
from kit.waiting import eventually, holds

from pgqueue import DatabaseUnavailableError, JobFailed, PgQueue

pytestmark = pytest.mark.contract("W7")

FILL = """
    do $$ begin
        for number in 1..200 loop perform pg_notify('filler', number || repeat('x', 7000)); end loop;
    end $$
"""


@pytest.fixture(scope="module")
def server() -> Iterator[CrashableServer]:
    """A server with a small queue of notifications, which only a start makes small."""
    with crashable_server() as server:
        with (server.data / "postgresql.auto.conf").open("a") as conf:
            conf.write("max_notify_queue_pages = 64\n")
        anyio.run(server.ensure_started)
        anyio.run(PgQueue(server.dsn).migrate)
        yield server


async def test_a_full_queue_of_notifications_stops_no_job_and_no_caller(
    server: CrashableServer, caplog: pytest.LogCaptureFixture
) -> None:
    sleeper, filler = await asyncpg.connect(server.dsn), await asyncpg.connect(server.dsn)
    pgq = PgQueue(server.dsn)

    @pgq.task
    async def double(number: int) -> int:
        return 2 * number

    @pgq.task(max_retries=0)
    async def halve(number: int) -> int:
        return 2 // number

    try:
        async with pgq, pgq.worker():
            failed = await halve.enqueue(0)
            with pytest.raises(JobFailed):
                await failed.result(timeout=60)
            # A tool that somebody forgot: it listens, and sits in a transaction.
            await sleeper.execute("listen something")
            await sleeper.execute("begin; select 1")
            with suppress(asyncpg.ProgramLimitExceededError):
                while True:
                    await filler.execute(FILL)
            async with asyncio.timeout(60):
                assert await (await double.enqueue(1)).result() == 2
                async with filler.transaction():
                    mine = await double.options(connection=filler).enqueue(2)
                assert await mine.result() == 4
                by_sql = await filler.fetchval("select pgqueue.enqueue('double', '[3]')")
                assert await pgq.handle(by_sql).result() == 6
                await pgq.redrive(failed.id, arguments={"number": 1})
                assert await failed.result() == 2
                later = await double.options(delay=3600).enqueue(3)
                await pgq.reprioritise(later.id, 5)
                assert await later.cancel()
                await pgq.pause(queue="other")
                await pgq.check()
            await sleeper.close()
            assert await (await double.enqueue(4)).result(timeout=60) == 8
    finally:
        await sleeper.close()
        await filler.close()
    loud = [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING]
    assert len([each for each in loud if "notification" in each]) <= 1


async def test_a_changed_password_is_waited_out_until_it_is_right_again(
    server: CrashableServer, caplog: pytest.LogCaptureFixture
) -> None:
    root = await asyncpg.connect(server.dsn)
    rules = server.data / "pg_hba.conf"
    rules.write_text(f"local all app scram-sha-256\n{rules.read_text()}")
    await root.execute("create role app login superuser password 'one'")
    await root.execute("select pg_reload_conf()")
    parts = urlsplit(server.dsn)
    pgq = PgQueue(parts._replace(netloc="app:one@").geturl(), connect_timeout=10.0)

    @pgq.task
    async def double(number: int) -> int:
        return 2 * number

    async def works() -> bool:
        try:
            return await (await double.enqueue(1)).result(timeout=60) == 2
        except DatabaseUnavailableError:
            return False

    try:
        async with pgq, pgq.worker() as worker:
            await eventually(works)
            await root.execute("alter role app password 'two'")
            await root.execute("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'app'")
            with pytest.raises(DatabaseUnavailableError, match="password authentication failed"):
                await double.enqueue(1)
            assert worker.is_alive
            await eventually(lambda: holds("password authentication failed" in caplog.text))
            await root.execute("alter role app password 'one'")
            await eventually(works)
    finally:
        await root.close()
    assert "one" not in [word for each in caplog.records for word in each.getMessage().split()]
