"""A server that crashes at once, as by a power failure: what it has acknowledged is there."""

from __future__ import annotations

import asyncio

from faults.figures import Figure, Report, Size
from faults.laboratory import laboratory
from faults.reruns import overlaps, thrown_away
from faults.scenarios.common import exits, lost, report


async def run(size: Size) -> Report:
    """Crash the server under load, also while jobs have just started: it forgets such claims."""
    crashes = {"short": 2, "full": 6}[size]
    async with laboratory() as lab:
        await lab.crew(3, "--concurrency", "10")
        await lab.enqueuer(80, 4 + crashes * 4)
        for _ in range(crashes):
            await lab.enqueue("plain", 6, seconds=3)
            await asyncio.sleep(0.1)
            async with lab.disturbed("crash"):
                await lab.server.crash()
                await lab.server.start()
            await asyncio.sleep(3)
        evidence = await lab.finish()
        return report(
            "crash",
            lab,
            evidence,
            lost(evidence),
            exits(lab),
            Figure("successes of live workers thrown away", thrown_away(evidence), bar=0),
            Figure("jobs that ran twice at once", overlaps(evidence)),
        )
