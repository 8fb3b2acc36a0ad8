"""Hostile values in every column: the other jobs run, lists and pages answer, and the worker lives."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from uuid import uuid4

import asyncpg
import httpx
import pytest
from hypothesis import HealthCheck, Phase, given, note, settings
from kit.faults import ghost
from kit.hostile import Plant, Table, plant, several_plants, single_plants, tables
from kit.waiting import over

from pgqueue import JobHandle, JobStatus, PgQueue
from pgqueue.upkeep import placing
from pgqueue.web import status_app

if TYPE_CHECKING:
    from conftest import Connection

    from pgqueue.testing.databases import Databases

TOKEN = "a-token-of-the-tests"
PATHS = (
    "/jobs",
    *(f"/jobs?status={status.value}" for status in JobStatus),
    "/queues",
    "/metrics",
    "/dead-letters",
    "/workers",
    "/dashboard/",
    "/dashboard/jobs",
    "/dashboard/queues",
    "/dashboard/workers",
    "/dashboard/dead-letters",
)
WRITER = "set pgqueue.writer to 'on'"


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have rows that fit nowhere looked for at once."""
    for name in ("FIRST_PASS", "GRACE", "LEASE_GRACE"):
        monkeypatch.setattr(placing, name, 0.0)


@pytest.mark.contract("W8")
async def test_a_hostile_value_in_any_column_harms_its_own_job_alone(
    pgq: PgQueue, db: Connection, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    await harm_no_other(pgq, db, list(single_plants(await tables(db))))


@pytest.mark.contract("W8")
def test_several_hostile_values_at_once_harm_their_own_jobs_alone(databases: Databases) -> None:
    async def known() -> list[Table]:
        connection = await asyncpg.connect(first)
        try:
            return list(await tables(connection))
        finally:
            await connection.close()

    async def try_it(dsn: str, planted: list[Plant]) -> None:
        connection = await asyncpg.connect(dsn)
        try:
            async with PgQueue(dsn) as pgq:
                await harm_no_other(pgq, connection, planted)
        finally:
            await connection.close()

    first = databases.clone()
    of = asyncio.run(known())
    databases.drop(first)

    # The same examples each time, and none is made smaller: a failure shows after a minute's waiting.
    @settings(
        max_examples=10,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],
    )
    @given(several_plants(of))
    def test(planted: list[Plant]) -> None:
        note("\n".join(map(str, planted)))
        dsn = databases.clone()
        try:
            asyncio.run(try_it(dsn, planted))
        finally:
            databases.drop(dsn)

    test()


@pytest.mark.contract("W8")
async def test_every_table_has_a_row_that_hostile_values_can_be_planted_in(db: Connection) -> None:
    await db.execute(WRITER)

    refused = [
        each.name for each in await tables(db) if not await plant(db, Plant(each, {}, "ready"), str(uuid4()))
    ]

    assert not refused, f"say in ROWS of tests/kit/hostile.py what a row of {refused} looks like"


async def harm_no_other(pgq: PgQueue, db: Connection, all_planted: Iterable[Plant]) -> None:
    """Plant rows among healthy jobs; assert that these end as they should, and pages answer."""

    @pgq.task
    async def work() -> None: ...

    @pgq.task
    async def healthy(n: int) -> int:
        return n

    await db.execute(WRITER)
    beside: list[JobHandle[int]] = []
    joined = healthy.options(idempotency_key="a", on_conflict="coalesce")
    async with ghost(pgq) as gone:
        # Each needs a chore, and stands among hostile rows that the chore meets.
        lost, stopped = await joined.enqueue(-1), await healthy.enqueue(-2)
        await gone.claim()
        await stopped.cancel()
        follower = await joined.enqueue(-3)
        soon = datetime.now(UTC) + timedelta(seconds=0.3)
        late = await healthy.options(queue="of nobody", expires=soon).enqueue(-4)
        due = await healthy.options(delay=0.3).enqueue(-5)
        for number, each in enumerate(all_planted):
            if number % 20 == 0:
                beside.append(await healthy.enqueue(len(beside)))
            await plant(db, each, str(gone.lease_id))
        await gone.die()
    async with pgq.worker(concurrency=20, lease_ttl=30) as worker:
        await worker.wait_ready()
        results = await asyncio.wait_for(asyncio.gather(*(job.result() for job in beside)), 180)
        ends = [await over(job) for job in (lost, stopped, follower, late, due)]
        assert worker.is_consuming
        wrong = {path: answer for path, (code, answer) in (await pages(pgq)).items() if code != 200}
        assert not wrong
    assert results == list(range(len(beside)))
    assert [end.status.value for end in ends] == [
        "succeeded",
        "cancelled",
        "succeeded",
        "expired",
        "succeeded",
    ]
    others = [await job.refresh() for job in beside]
    assert [job.losses for job in (*ends, *others)] == [1, 1, *[0] * (3 + len(others))]


async def pages(pgq: PgQueue) -> Mapping[str, tuple[int, str]]:
    """Return what each list and page answers: the status, and the beginning of the text."""
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app=status_app(pgq, token=TOKEN), raise_app_exceptions=False),
        base_url="http://localhost",
        headers={"Authorization": f"Bearer {TOKEN}"},
        timeout=60,
    ) as client:
        answers = {path: await client.get(path) for path in PATHS}
    return {path: (answer.status_code, answer.text[:300]) for path, answer in answers.items()}
