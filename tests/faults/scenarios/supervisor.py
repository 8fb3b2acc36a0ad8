"""SIGKILL of the children of one supervisor: its only machine, and its jobs run again within seconds."""

from __future__ import annotations

import asyncio
import random
import statistics

from faults.figures import Figure, Report, Size
from faults.laboratory import laboratory
from faults.load import MIX
from faults.processes import children_of, kill_child
from faults.reruns import kill_to_rerun, kill_to_rescue
from faults.scenarios.common import lost, report

MEDIAN_BAR, MOST_BAR = 6.0, 10.0


async def run(size: Size) -> Report:
    """Kill children at random, each time that jobs run again: others of them may be starting.

    There are more slots than jobs, even where one child is left: what waits for a slot says nothing of a
    rescue. Some jobs are lost twice: they run alone from then on, and are measured apart.
    """
    kills = {"short": 3, "full": 15}[size]
    chosen = random.Random(8)
    async with laboratory() as lab:
        supervisor = await lab.worker("--concurrency", "25", "--processes", "3", restart_after=None)
        await lab.at_work(3)
        await lab.enqueuer(20, kills * 2.0, mix={**MIX, "isolated": 0})
        for kill in range(kills):
            await lab.enqueue("plain", 6, seconds=4, first=kill * 100)
            await lab.until_running(6)
            await asyncio.sleep(chosen.uniform(1, 3))
            if children := children_of(supervisor.pid):
                kill_child(lab.surroundings, chosen.choice(children))
        evidence = await lab.finish()
        rescued = kill_to_rescue(evidence)
        times, apart = (kill_to_rerun(evidence, is_apart=is_apart) for is_apart in (False, True))
        return report(
            "supervisor",
            lab,
            evidence,
            Figure("jobs are back in the queue: at most", rescued[-1] if rescued else None, "s", MOST_BAR),
            Figure("jobs run again: median", statistics.median(times) if times else None, "s", MEDIAN_BAR),
            Figure("jobs run again: at most", times[-1] if times else None, "s", MOST_BAR),
            Figure("jobs that ran alone after two losses: at most", apart[-1] if apart else None, "s"),
            Figure("children killed", kills),
            lost(evidence),
        )
