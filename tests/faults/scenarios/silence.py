"""All connections die in silence, while new ones work: as behind a firewall that forgot them."""

from __future__ import annotations

import asyncio
import time

from kit.lines import line_to

from faults.figures import Figure, Report, Size
from faults.laboratory import Laboratory, laboratory
from faults.scenarios.common import exits, losses, lost, report
from faults.servers import laboratory_server

WORKS_WITHIN = 12.0
LONG = 25.0
"""Seconds that jobs go on: until after the leases would have been lost."""


async def run(size: Size) -> Report:
    """Have all connections forgotten while jobs run; see when the next job ends, and what leases are left."""
    times = {"short": 1, "full": 2}[size]
    async with (
        laboratory_server() as server,
        line_to(server.program_dsn) as (line, near),
        laboratory(server=server, dsn=near) as lab,
    ):
        await lab.crew(2, "--concurrency", "20")
        await lab.enqueuer(20, times * LONG, longest=0.02)
        before = await _leases(lab)
        gaps = []
        for number in range(times):
            await lab.enqueue("plain", 10, seconds=LONG - 5, first=number * 100)
            await asyncio.sleep(3)
            died = time.monotonic()
            async with lab.disturbed("silence"):
                line.forget_connections()
                await asyncio.sleep(LONG - 3)
            gaps.append(died)
        after = await _leases(lab)
        evidence = await lab.finish()
        resumed = [
            min((run.ended for run in evidence.runs if run.ended and run.began > died), default=None)
            for died in gaps
        ]
        waits = [end - died for end, died in zip(resumed, gaps, strict=True) if end is not None]
        return report(
            "silence",
            lab,
            evidence,
            Figure("work goes on after", max(waits, default=None), "s", WORKS_WITHIN),
            Figure("leases lost", len(before - after), bar=0),
            losses(evidence),
            exits(lab),
            lost(evidence),
        )


async def _leases(lab: Laboratory) -> set[str]:
    return {str(row["id"]) for row in await lab.server.query("select id from pgqueue.lease")}
