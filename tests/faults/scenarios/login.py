"""Logins are refused for a minute, and sessions ended: everybody waits, and nothing is lost."""

from __future__ import annotations

import asyncio
import time

from faults.figures import Figure, Report, Size
from faults.laboratory import laboratory
from faults.scenarios.common import exits, losses, lost, recovery, report
from faults.servers import ROLE

FULL_SPEED_WITHIN = 5.0
END_SESSIONS = f"select pg_terminate_backend(pid) from pg_stat_activity where usename = '{ROLE}'"


async def run(size: Size) -> Report:
    """Refuse logins, at first with the sessions of before; then end those, too."""
    seconds = {"short": 8.0, "full": 60.0}[size]
    async with laboratory() as lab:
        await lab.crew(3, "--concurrency", "10")
        await lab.enqueuer(60, seconds + 22, longest=0.02)
        await asyncio.sleep(8)
        began = time.monotonic()
        async with lab.disturbed("login"):
            await lab.server.admit("reject")
            await asyncio.sleep(seconds / 4)
            await lab.server.query(END_SESSIONS)
            await asyncio.sleep(seconds * 3 / 4)
            await lab.server.admit("scram-sha-256")
        admitted = time.monotonic()
        await asyncio.sleep(8)
        evidence = await lab.finish()
        return report(
            "login",
            lab,
            evidence,
            exits(lab),
            losses(evidence),
            Figure("full speed after", recovery(evidence, began, admitted), "s", FULL_SPEED_WITHIN),
            lost(evidence),
        )
