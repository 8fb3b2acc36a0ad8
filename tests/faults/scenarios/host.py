"""Several hosts: the first is deaf from the start, or freezes and its standby is promoted."""

from __future__ import annotations

import asyncio
import socket
import time
from contextlib import suppress
from urllib.parse import quote

from kit.servers import Standby

from faults.evidence import Evidence
from faults.figures import Figure, Report, Size
from faults.laboratory import laboratory
from faults.scenarios.common import exits, report
from faults.servers import ROLE, LaboratoryServer, laboratory_server
from pgqueue import DatabaseUnavailableError, PgQueue

FOLLOWED_WITHIN = 10.0
REPLICATES = {"wal_level": "replica", "max_wal_senders": "5", "hot_standby": "on"}


async def run(size: Size) -> Report:
    """Call beside a deaf host; freeze the primary, promote its standby; see when calls and jobs are there."""
    async with laboratory_server(REPLICATES) as server:
        with socket.create_server(("127.0.0.1", 0), backlog=64) as deaf:
            passed_by = await _call(_dsn(("127.0.0.1", deaf.getsockname()[1]), (server.data, 5432)))
        async with Standby.of(server) as standby:
            dsn = _dsn((server.data, 5432), (standby.data, 5432))
            async with laboratory(server=server, dsn=dsn) as lab, PgQueue(dsn) as caller:
                await lab.crew(2, "--concurrency", "10")
                await caller.enqueue(caller.signature("plain", n=1, seconds=0.1))
                await lab.drain()
                await standby.catch_up()
                async with lab.disturbed("host"):
                    server.freeze()
                    await standby.promote()
                    promoted = time.monotonic()
                    lab.server = LaboratoryServer(standby.data, standby.dsn)
                    await lab.enqueue("plain", 20, seconds=0.1)
                    enqueued = await _until_enqueued(caller) - promoted
                    await asyncio.sleep({"short": 0, "full": 5}[size])
                evidence = await lab.finish()
                followed = _first_end(evidence, promoted) - promoted
                return report(
                    "host",
                    lab,
                    evidence,
                    Figure("deaf first host: enqueued after", passed_by, "s", FOLLOWED_WITHIN),
                    Figure("frozen first host: jobs ended after", followed, "s", FOLLOWED_WITHIN),
                    Figure("frozen first host: enqueued after", enqueued, "s", FOLLOWED_WITHIN),
                    exits(lab),
                )


async def _call(dsn: str) -> float:
    """Return the seconds in which a new caller opens and enqueues."""
    began = time.monotonic()
    async with PgQueue(dsn) as caller:
        await (await caller.enqueue(caller.signature("plain", n=0, seconds=0))).cancel()
        return time.monotonic() - began


async def _until_enqueued(caller: PgQueue) -> float:
    """Enqueue until it is acknowledged; return when that was."""
    while True:
        with suppress(DatabaseUnavailableError):
            await caller.enqueue(caller.signature("plain", n=2, seconds=0))
            return time.monotonic()


def _first_end(evidence: Evidence, began: float) -> float:
    return min(run.ended for run in evidence.runs if run.ended and run.began > began)


def _dsn(*hosts: tuple[object, int]) -> str:
    names = ",".join(quote(str(host)) for host, _ in hosts)
    ports = ",".join(str(port) for _, port in hosts)
    return f"postgresql://{ROLE}:{ROLE}@/{ROLE}?host={names}&port={ports}"
