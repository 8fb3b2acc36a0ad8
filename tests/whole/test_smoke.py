"""The main path, once through."""

import pytest

from pgqueue import JobStatus, PgQueue


@pytest.mark.contract("P1.1", "P8.1")
async def test_a_job_goes_from_enqueue_to_done(pgq: PgQueue) -> None:
    @pgq.task
    async def add(a: int, b: int) -> int:
        return a + b

    job = await add.enqueue(1, 2)
    assert await job.status() is JobStatus.PENDING

    async with pgq.worker():
        assert await job.result(timeout=60) == 3

    assert await job.status() is JobStatus.SUCCEEDED
