"""The primary and its standby change places, and change back, under load: nothing is lost."""

from __future__ import annotations

import asyncio
import time

from faults.clusters import Cluster, cluster, under_load
from faults.figures import Figure, Report, Size
from faults.laboratory import Laboratory, laboratory
from faults.scenarios.common import exits, lost, report
from faults.scenarios.failover import FOLLOWED_WITHIN, followed


async def run(size: Size) -> Report:
    """Stop the primary, promote the standby, and have the old primary follow it."""
    seconds = {"short": 3.0, "full": 15.0}[size]
    async with (
        cluster(is_synchronous=False) as servers,
        laboratory(server=servers.primary, dsn=servers.dsn) as lab,
    ):
        await lab.crew(3, "--concurrency", "10")
        await lab.enqueuer(60, 3 * seconds)
        await under_load(servers.primary)
        await asyncio.sleep(seconds)
        promoted, left_within = await _change_places(lab, servers)
        evidence = await lab.finish()
        return report(
            "switchover",
            lab,
            evidence,
            *followed(evidence, lab.workers, promoted),
            Figure("the server that takes no writes was left after", left_within, "s", FOLLOWED_WITHIN),
            lost(evidence),
            exits(lab),
        )


async def _change_places(lab: Laboratory, servers: Cluster) -> tuple[float, float]:
    """Return when the standby took writes, and the seconds until nobody was on the other any more."""
    async with lab.disturbed("failover"):
        # It ends all sessions, and stops when the standby has everything.
        await servers.primary.stop()
        await servers.standby.promote()
        promoted = time.monotonic()
        lab.server = servers.promoted
    # Back at once: programs try it first, and find that it takes no writes.
    await servers.take_back(anew=False)
    return promoted, await servers.until_left()
