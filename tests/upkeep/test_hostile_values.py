"""Hostile values in every column: the other jobs run, lists and pages answer, and the worker lives."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING
from uuid import uuid4

import httpx
import pytest
from kit.hostile import Plant, plant, plants

from pgqueue import JobStatus, PgQueue
from pgqueue.web import status_app

if TYPE_CHECKING:
    from conftest import Connection

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


@pytest.mark.contract("W8")
async def test_a_hostile_value_in_any_column_harms_its_own_job_alone(
    pgq: PgQueue, db: Connection, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)

    @pgq.task
    async def work() -> None: ...

    @pgq.task
    async def healthy(n: int) -> int:
        return n

    # Of the worker that is gone, with healthy jobs among the hostile ones.
    lost = str(uuid4())
    await db.execute("set pgqueue.writer to 'on'")
    await healthy.enqueue(0)
    await db.execute(
        "insert into pgqueue.lease (id, worker, queues, expires_at) values ($1, 'gone', '{default}', now())",
        lost,
    )
    planted: list[Plant] = []
    beside = []
    for number, each in enumerate(await plants(db)):
        if number % 20 == 0:
            beside.append(await healthy.enqueue(number))
        if await plant(db, each, lost):
            planted.append(each)
    assert {each.table for each in planted} > {"job", "ready", "running", "mass_redrive", "lease"}
    async with pgq.worker(concurrency=20, lease_ttl=5) as worker:
        await worker.wait_ready()
        results = await asyncio.wait_for(asyncio.gather(*(job.result() for job in beside)), 60)
        late = await healthy.options(delay=1).enqueue(-1)
        await late.result(timeout=30)
        assert worker.is_consuming
        app = status_app(pgq, token=TOKEN)
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app=app, raise_app_exceptions=False),
            base_url="http://localhost",
            headers={"Authorization": f"Bearer {TOKEN}"},
            timeout=60,
        ) as client:
            answers = {path: await client.get(path) for path in PATHS}
        wrong = {path: a.text[:300] for path, a in answers.items() if a.status_code != 200}
        assert not wrong
    assert results == [number for number, _ in enumerate(await plants(db)) if number % 20 == 0]
