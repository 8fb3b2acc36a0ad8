"""SIGKILL of a worker where others live: its jobs run again within seconds, and nothing is lost."""

from __future__ import annotations

import asyncio
import random
import statistics

from faults.figures import Figure, Report, Size
from faults.laboratory import laboratory
from faults.load import MIX
from faults.reruns import kill_to_rerun
from faults.scenarios.common import lost, report

MEDIAN_BAR, MOST_BAR = 4.5, 6.0


async def run(size: Size) -> Report:
    """Kill one of three workers again and again, each time once it runs jobs that last."""
    kills = {"short": 2, "full": 6}[size]
    chosen = random.Random(kills)
    async with laboratory() as lab:
        workers = await lab.crew(3, "--concurrency", "10")
        await lab.enqueuer(40, kills * 5.0, mix={**MIX, "isolated": 0})
        for kill in range(kills):
            # Jobs that are caught for certain: short ones are over before a kill.
            await lab.enqueue("fragile", 3, seconds=4, first=kill * 100 + 50)
            await lab.enqueue("plain", 12, seconds=4, first=kill * 100)
            await lab.until_running(12)
            await asyncio.sleep(chosen.uniform(0.2, 0.7))
            chosen.choice(workers).kill()
            await asyncio.sleep(2.5)
        evidence = await lab.finish()
        times = kill_to_rerun(evidence)
        return report(
            "kill",
            lab,
            evidence,
            Figure("jobs run again: median", statistics.median(times) if times else None, "s", MEDIAN_BAR),
            Figure("jobs run again: at most", times[-1] if times else None, "s", MOST_BAR),
            Figure("jobs run again", len(times)),
            lost(evidence),
        )
