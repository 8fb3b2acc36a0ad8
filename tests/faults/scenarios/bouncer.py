"""PgBouncer itself is disturbed, and the server behind it, in each mode: nothing is lost, and all go on.

It is ended and started again, all of its sessions are taken, it is told to connect anew, the server behind it
is restarted, and in the end lost: then PgBouncer is pointed to the standby that was promoted.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import asyncpg
from kit.servers import Bouncer, bouncer, find_pgbouncer

from faults.clusters import Cluster, cluster, under_load
from faults.figures import Figure, Report, Size
from faults.laboratory import Laboratory, laboratory
from faults.scenarios.common import exits, lost, report
from faults.scenarios.failover import FOLLOWED_WITHIN, followed, merged

SESSIONS = {"transaction": 20, "session": 90}
"""Of each mode. In session mode each connection of each process has one."""
LEASE = "15"
MISSING = "PgBouncer is not installed (Debian: `apt-get install pgbouncer`)"


async def run(size: Size) -> Report:
    """Disturb it in transaction mode and in session mode."""
    program = find_pgbouncer()
    if program is None:
        return Report(
            "bouncer", impossible="PgBouncer is not installed (Debian: `apt-get install pgbouncer`)"
        )
    return merged([await _run_mode(size, program, mode) for mode in SESSIONS])


async def _run_mode(size: Size, program: str, mode: str) -> Report:
    pause = {"short": 1.0, "full": 8.0}[size]
    async with cluster(is_synchronous=True) as servers:
        settings = {"pool_mode": mode, "default_pool_size": SESSIONS[mode], "server_login_retry": 1}
        with bouncer(program, servers.primary.program_dsn, settings) as pooler:
            async with laboratory(server=servers.primary, dsn=pooler.dsn) as lab:
                await lab.crew(2, "--concurrency", "10", "--lease-ttl", LEASE)
                enqueuer = await lab.enqueuer(20, 36_000)
                await under_load(servers.primary)
                times = [await each(lab, servers, pooler, pause) for each in STEPS]
                enqueuer.stop()
                evidence = await lab.finish()
                figures = [
                    Figure(f"{name}: {figure.name}", figure.value, figure.unit, FOLLOWED_WITHIN)
                    for name, at in times
                    for figure in followed(evidence, lab.workers, at)
                ]
                return report("bouncer", lab, evidence, *figures, lost(evidence), exits(lab))


async def _restart(lab: Laboratory, _servers: Cluster, pooler: Bouncer, pause: float) -> tuple[str, float]:
    async with lab.disturbed("pooler"):
        pooler.end()
        await asyncio.sleep(pause / 2)
        await asyncio.to_thread(pooler.start)
        up = time.monotonic()
    await asyncio.sleep(pause)
    return "PgBouncer restarted", up


async def _exhaust(lab: Laboratory, _servers: Cluster, pooler: Bouncer, pause: float) -> tuple[str, float]:
    """Take all sessions that are to be had, each for a transaction that does nothing."""
    async with lab.disturbed("connections"), _taken(pooler):
        await asyncio.sleep(pause)
    free = time.monotonic()
    await asyncio.sleep(pause)
    return "all sessions taken", free


@asynccontextmanager
async def _taken(pooler: Bouncer) -> AsyncIterator[None]:
    taken: list[asyncpg.Connection[asyncpg.Record]] = []
    try:
        # One is refused, or waits in vain, once there are no more.
        with suppress(OSError, asyncpg.PostgresError):
            while True:
                taken.append(await asyncpg.connect(pooler.dsn, timeout=1, statement_cache_size=0))
                await taken[-1].execute("begin", timeout=1)
        yield
    finally:
        for connection in taken:
            connection.terminate()


async def _reconnect(lab: Laboratory, _servers: Cluster, pooler: Bouncer, pause: float) -> tuple[str, float]:
    async with lab.disturbed("pooler"):
        await _tell(pooler, "RECONNECT")
        told = time.monotonic()
        await asyncio.sleep(pause)
    return "RECONNECT", told


async def _restart_server(
    lab: Laboratory, servers: Cluster, _pooler: Bouncer, pause: float
) -> tuple[str, float]:
    async with lab.disturbed("restart"):
        await servers.primary.restart()
        up = time.monotonic()
    await asyncio.sleep(pause)
    return "server restarted", up


async def _fail_over(lab: Laboratory, servers: Cluster, pooler: Bouncer, pause: float) -> tuple[str, float]:
    async with lab.disturbed("failover"):
        servers.primary.kill()
        await servers.standby.promote()
        lab.server = servers.promoted
        pooler.point_to(servers.promoted.program_dsn)
        await _tell(pooler, "RELOAD", "RECONNECT")
        told = time.monotonic()
        await asyncio.sleep(pause)
    return "failover", told


async def _tell(pooler: Bouncer, *commands: str) -> None:
    # The console knows no prepared statements, and not what asyncpg asks of a server when it is closed.
    console = await asyncpg.connect(pooler.console, timeout=5, statement_cache_size=0)
    try:
        for command in commands:
            await console.execute(command)
    finally:
        console.terminate()


STEPS = (_restart, _exhaust, _reconnect, _restart_server, _fail_over)
