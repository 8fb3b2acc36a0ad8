"""A PgQueue that was closed opens again, in the same event loop or in another one."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from kit.scene import allow

from pgqueue import PgQueue
from pgqueue.web import status_app


@pytest.mark.contract("P1.9")
def test_a_pgqueue_works_in_one_event_loop_after_another(dsn: str) -> None:
    pgq = PgQueue(dsn, max_depth=1000)
    app = status_app(pgq, authorize=allow)

    @pgq.task
    async def echo(value: int) -> int:
        return value

    async def use(value: int) -> list[Any]:
        transport = httpx.ASGITransport(app)
        async with pgq, httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            idle = await echo.options(delay=60).enqueue(0)
            unchanged, *_ = await asyncio.gather(
                client.get(f"/jobs/{idle.id}?wait=0.1"), *(client.get("/metrics") for _ in range(3))
            )
            async with pgq.worker(queues=["default"]):
                jobs = await asyncio.gather(*(echo.enqueue(value) for _ in range(3)))
                results = [await job.result(timeout=60) for job in jobs]
            return [unchanged.status_code, *results]

    used = [asyncio.run(use(value)) for value in range(3)]

    assert used == [[200, value, value, value] for value in range(3)]


async def test_a_pgqueue_opens_again_in_the_same_loop(pgq: PgQueue) -> None:
    first = await pgq.enqueue_by_name("work")
    await pgq.close()

    await pgq.open()

    assert await first.status() == "pending"
