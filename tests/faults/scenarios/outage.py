"""A server that is away for longer than a lease: what workers finished meanwhile counts when it is back."""

from __future__ import annotations

import asyncio

from faults.figures import Figure, Report, Size
from faults.laboratory import laboratory
from faults.reruns import thrown_away
from faults.scenarios.common import exits, losses, lost, report


async def run(size: Size) -> Report:
    """Have jobs end while the server is away, of which half may run only once."""
    outages, lease = {"short": (1, 10.0), "full": (2, 15.0)}[size]
    async with laboratory() as lab:
        await lab.crew(3, "--concurrency", "20", "--lease-ttl", str(lease))
        for number in range(outages):
            first = number * 100
            await lab.enqueue("plain", 20, seconds=lease / 2, first=first)
            await lab.enqueue("once", 20, seconds=lease / 2, first=first + 50)
            await lab.until_running(40)
            async with lab.disturbed("outage"):
                await lab.server.crash()
                await asyncio.sleep(lease + 5)
                await lab.server.start()
            await lab.drain()
        evidence = await lab.finish()
        failed = sum(job.status == "failed" for job in evidence.jobs.values())
        return report(
            "outage",
            lab,
            evidence,
            lost(evidence),
            exits(lab),
            losses(evidence),
            Figure("successes of live workers thrown away", thrown_away(evidence), bar=0),
            Figure("at-most-once jobs failed", failed, bar=0),
        )
