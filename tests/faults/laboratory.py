"""A laboratory: a server, workers and enqueuers on it, and what they note, which is read in the end."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import asyncpg
from kit.waiting import eventually

from faults.evidence import Evidence, read_evidence
from faults.load import MIX
from faults.processes import EnqueuerProcess, Surroundings, WorkerProcess
from faults.servers import LaboratoryServer, keep_log, laboratory_server
from pgqueue import PgQueue

NUMBERS_APART = 10_000_000
START_WITHIN = 180.0
"""Seconds within which workers have started: on a machine that is very busy, too."""
DRAIN_WITHIN = 180.0
"""Seconds within which all jobs have ended, once nothing is disturbed and nothing is enqueued any more."""

LIVE_JOBS = """
    select (select count(*) from pgqueue.ready) + (select count(*) from pgqueue.running)
        + (select count(*) from pgqueue.scheduled) + (select count(*) from pgqueue.blocked)
"""


class Laboratory:
    """What a scenario works with."""

    def __init__(self, server: LaboratoryServer, folder: Path, dsn: str) -> None:
        self.server = server
        self.folder = folder
        self.surroundings = Surroundings(dsn, folder)
        self.workers: list[WorkerProcess] = []
        self._enqueuers: list[EnqueuerProcess] = []
        self.note = self.surroundings.notebook.note
        self.began = time.monotonic()
        self.note("clock", wall=time.time())

    async def worker(
        self,
        *options: str,
        restart_after: float | None = 0.3,
        environment: Mapping[str, str] | None = None,
    ) -> WorkerProcess:
        """Start a worker; it is started again so many seconds after it has ended, or never (None)."""
        name = f"w{len(self.workers)}"
        worker = WorkerProcess(
            self.surroundings, name, options, restart_after=restart_after, environment=environment or {}
        )
        self.workers.append(worker)
        await worker.start()
        return worker

    async def crew(self, size: int, *options: str, restart_after: float | None = 0.3) -> list[WorkerProcess]:
        """Start so many workers, and wait until all of them work."""
        workers = [await self.worker(*options, restart_after=restart_after) for _ in range(size)]
        await self.at_work(size)
        return workers

    async def at_work(self, count: int) -> None:
        """Wait until so many workers have a lease."""

        async def is_so() -> bool:
            [row] = await self.server.query("select count(*) from pgqueue.lease where expires_at > now()")
            return int(row["count"]) >= count

        await eventually(is_so, within=START_WITHIN)

    async def enqueuer(
        self, rate: float, seconds: float, *, mix: Mapping[str, int] = MIX, longest: float = 0.05
    ) -> EnqueuerProcess:
        """Start an enqueuer: *rate* jobs a second, whose handlers take *longest* at most."""
        number = len(self._enqueuers)
        load: dict[str, Any] = {
            "rate": rate,
            "seconds": seconds,
            "mix": dict(mix),
            "longest": longest,
            "first": (number + 1) * NUMBERS_APART,
        }
        enqueuer = EnqueuerProcess(self.surroundings, str(number), load)
        self._enqueuers.append(enqueuer)
        await enqueuer.start()
        return enqueuer

    @asynccontextmanager
    async def disturbed(self, fault: str, *pids: int) -> AsyncIterator[None]:
        """Note that a fault lasts for as long as the block: for these processes, or for all."""
        self.note("fault_began", fault=fault, pids=pids)
        try:
            yield
        finally:
            self.note("fault_ended", fault=fault, pids=pids)

    async def enqueue(
        self, task: str, count: int, *, seconds: float, first: int = 0, max_losses: int = 100_000
    ) -> list[str]:
        """Enqueue jobs that take so many seconds each; return their ids."""
        async with PgQueue(self.server.program_dsn) as pgq:
            numbers = range(first, first + count)
            signature = pgq.signature(task, seconds=seconds, options={"max_losses": max_losses})
            calls = [signature.clone(n=n) for n in numbers]
            return [str(handle.id) for handle in await pgq.enqueue_many(calls)]

    async def running(self) -> int:
        """Return how many jobs are running, by the database."""
        [row] = await self.server.query("select count(*) from pgqueue.running where started_at is not null")
        return int(row["count"])

    async def until_running(self, count: int, *, within: float = START_WITHIN) -> None:
        """Wait until so many jobs are running."""

        async def are_running() -> bool:
            return await self.running() >= count

        await eventually(are_running, within=within)

    async def finish(self, *, drain_within: float = DRAIN_WITHIN) -> Evidence:
        """Wait for the enqueuers and for all jobs, stop the workers, and return what they have noted."""
        for enqueuer in self._enqueuers:
            code = await enqueuer.end()
            if code:
                self.note("enqueuer_failed", code=code)
        await self.drain(drain_within)
        await asyncio.gather(*(worker.end() for worker in self.workers))
        return await read_evidence(self.folder, self.server.database_dsn)

    async def drain(self, within: float = DRAIN_WITHIN) -> None:
        """Wait until no job is live; note it if that takes longer."""
        began = time.monotonic()
        while time.monotonic() - began < within:
            with suppress(OSError, asyncpg.PostgresError, TimeoutError):
                [row] = await self.server.query(LIVE_JOBS)
                if not row[0]:
                    self.note("drained", seconds=time.monotonic() - began)
                    return
            await asyncio.sleep(0.2)
        self.note("not_drained", seconds=within)

    async def close(self) -> None:
        """End what is left of the processes."""
        for enqueuer in self._enqueuers:
            enqueuer.kill()
        for worker in self.workers:
            if worker.is_running:
                worker.thaw()
                worker.kill()
        await asyncio.gather(*(worker.end() for worker in self.workers))


@asynccontextmanager
async def laboratory(
    settings: Mapping[str, str] | None = None,
    *,
    server: LaboratoryServer | None = None,
    dsn: str | None = None,
    keep: Path | None = None,
) -> AsyncIterator[Laboratory]:
    """Have a laboratory on a server of its own with these settings, or on *server*.

    *dsn*: how workers and enqueuers reach the server, if not directly. What they write lies in the folder
    *keep*, or is gone in the end.
    """
    if server is None:
        async with (
            laboratory_server(settings) as made,
            laboratory(server=made, dsn=dsn, keep=keep) as lab,
        ):
            yield lab
        return
    with tempfile.TemporaryDirectory(prefix="pgqueue-faults-") as temporary:
        folder = keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        lab = Laboratory(server, folder, dsn or server.program_dsn)
        try:
            yield lab
        finally:
            await lab.close()
            keep_log(server, folder)
