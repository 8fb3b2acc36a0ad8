"""The server has no connection left: jobs that want one wait, and use up no retries."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import asyncpg

from faults.figures import Figure, Report, Size
from faults.laboratory import laboratory
from faults.scenarios.common import exits, losses, lost, report
from faults.servers import LaboratoryServer

FEW = {"max_connections": "40", "superuser_reserved_connections": "5"}


async def run(size: Size) -> Report:
    """Take all connections that come free, while jobs want transactions and steps."""
    seconds = {"short": 6.0, "full": 30.0}[size]
    async with laboratory(FEW) as lab:
        await lab.crew(2, "--concurrency", "10")
        await lab.enqueuer(30, seconds + 8, mix={"money": 1, "stepper": 1, "plain": 1, "once": 1})
        await asyncio.sleep(4)
        # Connections that are there and free, as after a quiet time, go to whoever takes them.
        async with lab.disturbed("connections"):
            hog = asyncio.create_task(_take_all(lab.server))
            await asyncio.sleep(seconds)
            hog.cancel()
            await asyncio.gather(hog, return_exceptions=True)
        evidence = await lab.finish()
        burned = sum(each.reason == "exception" for job in evidence.jobs.values() for each in job.attempts)
        return report(
            "connections",
            lab,
            evidence,
            Figure("attempts used up", burned, bar=0),
            lost(evidence),
            exits(lab),
            losses(evidence),
        )


async def _take_all(server: LaboratoryServer) -> None:
    held: list[asyncpg.Connection[asyncpg.Record]] = []
    try:
        while True:
            try:
                held.append(await asyncpg.connect(server.program_dsn, timeout=5))
            except (asyncpg.PostgresError, OSError, TimeoutError):
                await asyncio.sleep(0.01)
    finally:
        for connection in held:
            with suppress(Exception):
                await asyncio.wait_for(connection.close(), 5)
