"""A server that is restarted under load: nobody ends, nothing is lost, and work goes on within a second."""

from __future__ import annotations

import asyncio
import time

from faults.figures import Figure, Report, Size
from faults.laboratory import laboratory
from faults.load import MIX, PLAIN
from faults.reruns import thrown_away
from faults.scenarios.common import exits, lost, recovery, report

RECOVERED_BAR = 1.0


async def run(size: Size) -> Report:
    """Restart the server under load; see how soon jobs end at four fifths of the rate that they had."""
    restarts = {"short": 1, "full": 4}[size]
    moments: list[tuple[float, float]] = []
    async with laboratory() as lab:
        await lab.crew(3, "--concurrency", "10")
        await lab.enqueuer(100, 9 + restarts * 9, mix=PLAIN, longest=0.02)
        await lab.enqueuer(30, 9 + restarts * 9, mix=MIX)
        await asyncio.sleep(8)
        for _ in range(restarts):
            began = time.monotonic()
            async with lab.disturbed("restart"):
                await lab.server.restart()
            moments.append((began, time.monotonic()))
            await asyncio.sleep(8)
        evidence = await lab.finish()
        return report(
            "restart",
            lab,
            evidence,
            lost(evidence),
            exits(lab),
            Figure(
                "until 80 % of the rate: at most",
                max(recovery(evidence, began, up) for began, up in moments),
                "s",
                RECOVERED_BAR,
            ),
            Figure("successes of live workers thrown away", thrown_away(evidence), bar=0),
        )
