"""Behind PgBouncer in transaction mode: a worker that was killed is noticed when its lease has expired."""

from __future__ import annotations

import asyncio

from kit.servers import find_pgbouncer, pgbouncer

from faults.figures import Figure, Report, Size
from faults.laboratory import laboratory
from faults.load import MIX
from faults.reruns import kill_to_rerun
from faults.scenarios.common import lost, report
from faults.servers import laboratory_server

SESSIONS = 20
BEYOND_LEASE = 5.0


async def run(size: Size) -> Report:
    """Kill workers behind the pooler, each while its jobs run."""
    kills, lease = {"short": (1, 5.0), "full": (3, 15.0)}[size]
    program = find_pgbouncer()
    if program is None:
        return Report("pooler", impossible="PgBouncer is not installed (Debian: `apt-get install pgbouncer`)")
    async with laboratory_server() as server:
        with pgbouncer(program, server.program_dsn, sessions=SESSIONS) as pooled:
            async with laboratory(server=server, dsn=pooled) as lab:
                # Fewer slots than jobs that are held: each worker has some when it is killed.
                workers = await lab.crew(2, "--concurrency", "10", "--lease-ttl", str(lease))
                # A caller's own transactions need a session each; those behind a pooler are the program's.
                await lab.enqueuer(20, kills * 6.0, mix={**MIX, "isolated": 0})
                for kill in range(kills):
                    await lab.enqueue("plain", 12, seconds=4, first=kill * 100)
                    await lab.until_running(12)
                    workers[kill % 2].kill()
                    await asyncio.sleep(4)
                evidence = await lab.finish()
                times = kill_to_rerun(evidence)
                return report(
                    "pooler",
                    lab,
                    evidence,
                    Figure("jobs run again: at most", max(times, default=None), "s", lease + BEYOND_LEASE),
                    Figure("jobs run again", len(times)),
                    lost(evidence),
                )
