"""Sessions are terminated one after the other, whatever they are doing."""

from __future__ import annotations

import asyncio
import random
import time

from faults.figures import Figure, Report, Size
from faults.laboratory import laboratory
from faults.processes import resident_mib
from faults.scenarios.common import exits, losses, lost, report
from faults.servers import ROLE

GROWTH_BAR = 32.0
SESSIONS = f"select pid from pg_stat_activity where usename = '{ROLE}' order by pid"


async def run(size: Size) -> Report:
    """Terminate a session of the program each fraction of a second."""
    seconds = {"short": 6.0, "full": 30.0}[size]
    chosen = random.Random(size)
    terminated = 0
    async with laboratory() as lab:
        await lab.crew(3, "--concurrency", "10")
        await lab.enqueuer(80, seconds)
        await asyncio.sleep(2)
        before = {worker.pid: resident_mib(worker.pid) for worker in lab.workers}
        until = time.monotonic() + seconds
        async with lab.disturbed("backends"):
            while time.monotonic() < until:
                if sessions := await lab.server.query(SESSIONS):
                    await lab.server.query("select pg_terminate_backend($1)", chosen.choice(sessions)["pid"])
                    terminated += 1
                await asyncio.sleep(0.2)
        grown = max(resident_mib(pid) - memory for pid, memory in before.items())
        evidence = await lab.finish()
        return report(
            "backends",
            lab,
            evidence,
            Figure("sessions terminated", terminated),
            lost(evidence),
            exits(lab),
            losses(evidence),
            Figure("a worker's memory grew by at most", grown, "MiB", GROWTH_BAR),
        )
