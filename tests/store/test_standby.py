"""On a hot standby: whoever reads or waits is served, and whoever writes is told why that cannot be."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Iterator

import anyio
import httpx
import pytest
from anyio.from_thread import start_blocking_portal
from kit.roles import roles_of
from kit.servers import CrashableServer, Standby, crashable_server
from kit.waiting import eventually

from pgqueue import DatabaseUnavailableError, JobStatus, PgQueue
from pgqueue.database.outages import RECONNECT_PAUSES
from pgqueue.web import status_app

pytestmark = pytest.mark.contract("W6")

TOKEN = "t" * 32


@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[CrashableServer, Standby]]:
    """A migrated server, and its standby."""
    with crashable_server() as server:
        anyio.run(server.ensure_started)
        anyio.run(PgQueue(server.dsn).migrate)
        with (
            start_blocking_portal() as portal,
            portal.wrap_async_context_manager(Standby.of(server)) as standby,
        ):
            yield server, standby


@pytest.fixture
def primary(servers: tuple[CrashableServer, Standby]) -> PgQueue:
    """A PgQueue for the primary, not open."""
    pgq = PgQueue(servers[0].dsn)

    @pgq.task
    async def double(number: int) -> int:
        return 2 * number

    return pgq


@pytest.fixture
def standby(servers: tuple[CrashableServer, Standby]) -> Standby:
    return servers[1]


async def test_on_a_standby_jobs_are_read_and_awaited_and_no_write_succeeds(
    primary: PgQueue, standby: Standby
) -> None:
    async with primary, PgQueue(standby.dsn) as reader:
        job = await primary.enqueue_by_name("double", 21)
        await standby.catch_up()

        assert (await reader.get(job.id)).status is JobStatus.PENDING
        assert [each.id for each in (await reader.jobs()).jobs] == [job.id]
        assert await reader.measure()
        writes = (reader.enqueue_by_name("double", 1), reader.pause(queue="default"))
        refused: list[object] = await asyncio.gather(*writes, return_exceptions=True)
        for each in refused:
            assert isinstance(each, DatabaseUnavailableError)
            assert "read-only" in str(each)

        async with anyio.create_task_group() as group:
            ended = anyio.Event()

            async def wait() -> None:
                assert (await reader.wait(job.id)).result == 42
                ended.set()

            group.start_soon(wait)
            app = status_app(reader, token=TOKEN)
            transport = httpx.ASGITransport(app=app)
            headers = {"Authorization": f"Bearer {TOKEN}"}
            async with httpx.AsyncClient(
                transport=transport, base_url="http://localhost", headers=headers
            ) as client:
                for path in ("/dashboard", "/dashboard/jobs", f"/dashboard/jobs/{job.id}", f"/jobs/{job.id}"):
                    answer = await client.get(path, follow_redirects=True)
                    assert answer.status_code == 200, (path, answer.text)
                told = {"If-None-Match": answer.headers["ETag"]}

                async def poll() -> None:
                    later = await client.get(f"/jobs/{job.id}?wait=30", headers=told)
                    assert later.status_code == 200
                    # It is told of the start, or at once of the end.
                    assert later.json()["status"] in ("running", "succeeded")

                async with primary.worker(), anyio.create_task_group() as polls:
                    polls.start_soon(poll)
                    await ended.wait()


async def test_who_awaits_on_a_standby_connects_ever_more_seldom(
    primary: PgQueue, standby: Standby, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "pgqueue.signals")
    async with primary, PgQueue(standby.dsn) as reader, anyio.create_task_group() as group:
        job = await primary.enqueue_by_name("double", 21)
        await standby.catch_up()
        group.start_soon(reader.wait, job.id)

        async def is_patient() -> bool:
            return len(pauses(caplog)) >= len(RECONNECT_PAUSES) + 1

        await eventually(is_patient)
        group.cancel_scope.cancel()

    assert pauses(caplog) == sorted(pauses(caplog))
    assert pauses(caplog)[-1] > RECONNECT_PAUSES[-1]
    assert sum(record.levelno >= logging.WARNING for record in listening(caplog)) == 1


async def test_migrating_a_standby_of_a_migrated_database_writes_nothing(
    primary: PgQueue, standby: Standby
) -> None:
    await standby.catch_up()
    async with PgQueue(standby.dsn) as reader:
        assert await reader.migrate() == []
        assert await reader.pending_migrations() == ""


async def test_migrating_as_a_role_that_may_only_read_writes_nothing(dsn: str, superuser_dsn: str) -> None:
    async with roles_of(superuser_dsn) as roles:
        reader = PgQueue(roles.dsn_of("read"))
        assert await reader.migrate() == []
        assert await reader.pending_migrations() == ""


def listening(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [
        record
        for record in caplog.records
        if "read-only" in record.getMessage() or "recovery" in record.getMessage()
    ]


def pauses(caplog: pytest.LogCaptureFixture) -> list[float]:
    """The pauses that the listener has made."""
    found = (re.search(r"next attempt in (\S+) s", record.getMessage()) for record in listening(caplog))
    return [float(each[1]) for each in found if each]
