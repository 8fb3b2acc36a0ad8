"""SIGTERM of workers: what ends within the grace ends, the rest goes back without counting the attempt."""

from __future__ import annotations

import asyncio

from faults.figures import Figure, Report, Size
from faults.laboratory import laboratory
from faults.scenarios.common import exits, lost, report

GRACE = 2.0


async def run(size: Size) -> Report:
    """Stop workers while some jobs outlast their grace, and all others under load."""
    stops = {"short": 2, "full": 8}[size]
    async with laboratory() as lab:
        workers = await lab.crew(2, "--concurrency", "10", "--grace", str(GRACE))
        await lab.enqueuer(40, stops * 4.0)
        for number in range(stops):
            await lab.enqueue("plain", 8, seconds=GRACE + 3, first=number * 100)
            await lab.until_running(8)
            workers[number % 2].terminate()
            await asyncio.sleep(GRACE + 2)
        evidence = await lab.finish()
        released = [e for job in evidence.jobs.values() for e in job.attempts if e.reason == "released"]
        charged = [e for job in evidence.jobs.values() for e in job.attempts if e.reason == "lost"]
        return report(
            "stop",
            lab,
            evidence,
            Figure("jobs returned", len(released), bar=1, is_least=True),
            Figure("losses charged", len(charged), bar=0),
            Figure("exits by an error", sum(code != 0 for worker in workers for code in worker.stops), bar=0),
            exits(lab),
            lost(evidence),
        )
