"""SIGKILL of the children of one supervisor: its only machine, and its jobs run again within seconds."""

from __future__ import annotations

import asyncio
import random
import statistics

from faults.figures import Figure, Report, Size
from faults.laboratory import laboratory
from faults.load import MIX
from faults.processes import children_of, kill_child
from faults.reruns import kill_to_rerun
from faults.scenarios.common import lost, report

MEDIAN_BAR, MOST_BAR = 6.0, 10.0


async def run(size: Size) -> Report:
    """Kill children at random, each time that jobs run again: others of them may be starting."""
    kills = {"short": 3, "full": 15}[size]
    chosen = random.Random(8)
    async with laboratory() as lab:
        supervisor = await lab.worker("--concurrency", "4", "--processes", "3", restart_after=None)
        await lab.at_work(3)
        await lab.enqueuer(20, kills * 2.0, mix={**MIX, "isolated": 0})
        for kill in range(kills):
            await lab.enqueue("plain", 4, seconds=4, first=kill * 100)
            await lab.until_running(4)
            await asyncio.sleep(chosen.uniform(1, 3))
            if children := children_of(supervisor.pid):
                kill_child(lab.surroundings, chosen.choice(children))
        evidence = await lab.finish()
        times = kill_to_rerun(evidence)
        return report(
            "supervisor",
            lab,
            evidence,
            Figure("jobs run again: median", statistics.median(times) if times else None, "s", MEDIAN_BAR),
            Figure("jobs run again: at most", times[-1] if times else None, "s", MOST_BAR),
            Figure("children killed", kills),
            lost(evidence),
        )
