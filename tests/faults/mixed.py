"""Faults at random, one after the other and beside each other, from a seed."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

from kit.lines import Line, line_to

from faults.figures import Figure, Report
from faults.laboratory import Laboratory, laboratory
from faults.processes import WorkerProcess
from faults.scenarios.common import exits, lost, report
from faults.servers import ROLE, laboratory_server

LEASE = 5.0
WORKERS = 4
RATE = 50.0
"""Jobs a second."""
SESSIONS = f"select pid from pg_stat_activity where usename = '{ROLE}' order by pid"

Fault = Callable[[], Awaitable[None]]


class Mixed:
    """Disturbs a laboratory at random, in three lanes: workers, the server, and single sessions."""

    def __init__(self, lab: Laboratory, line: Line, seed: int) -> None:
        self.done: Counter[str] = Counter()
        self._lab = lab
        self._line = line
        self._seed = seed
        self._worker_chosen = random.Random(f"workers {seed}")
        self._server_chosen = random.Random(f"server {seed}")
        self._session_chosen = random.Random(f"sessions {seed}")
        self._deadline = 0.0
        self._wanted: int | None = None

    async def run(self, minutes: float | None, faults: int | None) -> None:
        """Disturb for so many minutes, or until there were so many faults."""
        self._deadline = time.monotonic() + (minutes * 60 if minutes is not None else 3600)
        self._wanted = faults
        workers: dict[Fault, int] = {
            self._kill: 4, self._terminate: 3, self._freeze: 3, self._freeze_long: 1,
        }  # fmt: skip
        servers: dict[Fault, int] = {
            self._forget: 2, self._restart: 3, self._crash: 3, self._outage: 1, self._freeze_server: 2,
            self._refuse: 2, self._take_connections: 1,
        }  # fmt: skip
        sessions: dict[Fault, int] = {self._end_sessions: 14, self._cut: 1}
        await asyncio.gather(
            self._lane(self._worker_chosen, workers, 1.0),
            self._lane(self._server_chosen, servers, 2.0),
            self._lane(self._session_chosen, sessions, 0.25),
        )

    async def _lane(self, chosen: random.Random, faults: dict[Fault, int], pause: float) -> None:
        while not self._is_over():
            [fault] = chosen.choices(list(faults), list(faults.values()))
            await fault()
            self.done[fault.__name__.strip("_")] += 1
            await asyncio.sleep(chosen.expovariate(1 / pause))

    def _is_over(self) -> bool:
        is_enough = self._wanted is not None and self.done.total() >= self._wanted
        return is_enough or time.monotonic() >= self._deadline

    def _worker(self) -> WorkerProcess | None:
        running = [worker for worker in self._lab.workers if worker.is_running]
        return self._worker_chosen.choice(running) if running else None

    async def _kill(self) -> None:
        if worker := self._worker():
            worker.kill()

    async def _terminate(self) -> None:
        if worker := self._worker():
            worker.terminate()

    async def _freeze(self) -> None:
        await self._freeze_for(self._worker_chosen.uniform(0.2, 2))

    async def _freeze_long(self) -> None:
        await self._freeze_for(LEASE + self._worker_chosen.uniform(2, 6))

    async def _freeze_for(self, seconds: float) -> None:
        if worker := self._worker():
            worker.freeze()
            await asyncio.sleep(seconds)
            worker.thaw()

    async def _end_sessions(self) -> None:
        async with self._lab.disturbed("backends"):
            # The server may be on its way down, whatever the driver says to that.
            with suppress(Exception):
                if sessions := await self._lab.server.query(SESSIONS):
                    some = self._session_chosen.sample(
                        sessions, min(len(sessions), self._session_chosen.randint(1, 4))
                    )
                    await self._lab.server.query(
                        "select pg_terminate_backend(pid) from unnest($1::int[]) as pid",
                        [session["pid"] for session in some],
                    )

    async def _cut(self) -> None:
        async with self._lab.disturbed("cut"):
            await self._line.hang_up()

    async def _forget(self) -> None:
        async with self._lab.disturbed("silence"):
            self._line.forget_connections()
            await asyncio.sleep(12)

    async def _restart(self) -> None:
        async with self._lab.disturbed("restart"):
            await self._lab.server.restart()

    async def _crash(self) -> None:
        async with self._lab.disturbed("crash"):
            await self._lab.server.crash()
            await self._lab.server.start()

    async def _outage(self) -> None:
        async with self._lab.disturbed("outage"):
            await self._lab.server.crash()
            await asyncio.sleep(LEASE + self._server_chosen.uniform(0, 4))
            await self._lab.server.start()

    async def _freeze_server(self) -> None:
        async with self._lab.disturbed("frozen_server"):
            self._lab.server.freeze()
            await asyncio.sleep(self._server_chosen.uniform(0.5, 8))
            self._lab.server.thaw()

    async def _refuse(self) -> None:
        async with self._lab.disturbed("login"):
            await self._lab.server.admit("reject")
            await self._lab.server.query(f"select pg_terminate_backend(pid) from ({SESSIONS}) as sessions")
            await asyncio.sleep(self._server_chosen.uniform(0.5, 8))
            await self._lab.server.admit("scram-sha-256")

    async def _take_connections(self) -> None:
        async with self._lab.disturbed("connections"):
            await self._lab.server.query(f"alter role {ROLE} connection limit 5")
            await self._lab.server.query(f"select pg_terminate_backend(pid) from ({SESSIONS}) as sessions")
            await asyncio.sleep(self._server_chosen.uniform(1, 6))
            await self._lab.server.query(f"alter role {ROLE} connection limit -1")


async def run_mixed(
    seed: int, *, minutes: float | None, faults: int | None = None, keep: Path | None = None
) -> Report:
    """Disturb at random, and return what it came to; records and logs stay in the folder *keep*."""
    began = time.monotonic()
    async with (
        laboratory_server() as server,
        line_to(server.program_dsn) as (line, near),
        laboratory(server=server, dsn=near, keep=keep) as lab,
    ):
        await lab.crew(WORKERS, "--concurrency", "10", "--lease-ttl", str(LEASE))
        enqueuers = [await lab.enqueuer(RATE / 2, 36_000) for _ in range(2)]
        mixed = Mixed(lab, line, seed)
        await mixed.run(minutes, faults)
        for enqueuer in enqueuers:
            enqueuer.stop()
        evidence = await lab.finish()
        made = report(
            "mixed",
            lab,
            evidence,
            Figure("faults", mixed.done.total()),
            Figure("jobs", len(evidence.jobs)),
            lost(evidence),
            exits(lab),
        )
        made.counts["faults"] = mixed.done
        made.seconds = round(time.monotonic() - began, 1)
        return made
