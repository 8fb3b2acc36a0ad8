"""Workers and enqueuers as processes, which are started as an operator does and can be disturbed."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from faults.records import Notebook

TESTS = Path(__file__).parents[1]
STOP_WITHIN = 180.0
"""Seconds that a worker has to stop, before it is killed for not stopping."""


class Surroundings:
    """Where processes of a laboratory run: how they reach the server, and where they write."""

    def __init__(self, dsn: str, folder: Path) -> None:
        self.dsn = dsn
        self.folder = folder
        self.notebook = Notebook(folder)

    def environment(self, **more: str) -> dict[str, str]:
        """Return the environment of a process."""
        path = os.pathsep.join([str(TESTS), str(TESTS.parent), os.environ.get("PYTHONPATH", "")])
        return {
            **os.environ,
            "FAULTS_DSN": self.dsn,
            "FAULTS_RECORDS": str(self.folder),
            "PYTHONPATH": path.rstrip(os.pathsep),
            **more,
        }

    async def start(self, name: str, *command: str, **environment: str) -> asyncio.subprocess.Process:
        """Start a process whose output is appended to a file of that name."""
        with (self.folder / f"{name}.log").open("ab") as log:
            return await asyncio.create_subprocess_exec(
                sys.executable,
                *command,
                cwd=TESTS,
                env=self.environment(**environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )


class WorkerProcess:
    """A `pgqueue worker`, started again whenever it ends, as by a service manager, until it is to end."""

    def __init__(
        self,
        surroundings: Surroundings,
        name: str,
        options: tuple[str, ...],
        *,
        restart_after: float | None,
        environment: Mapping[str, str],
    ) -> None:
        self.name = name
        self.exits: list[int] = []
        """Exit codes of processes that ended by themselves."""
        self.stops: list[int] = []
        """Exit codes of processes that were asked to stop."""
        self._surroundings = surroundings
        self._options = options
        self._restart_after = restart_after
        self._environment = environment
        self._process: asyncio.subprocess.Process | None = None
        self._is_to_end = False
        self._stopped: set[int] = set()
        self._killed: set[int] = set()
        self._watch: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start the process, and watch it from then on."""
        await self._start_process()
        self._watch = asyncio.create_task(self._watch_process())

    @property
    def pid(self) -> int:
        """The process of now, or the last one."""
        assert self._process is not None
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether the process of now is there."""
        return self._process is not None and self._process.returncode is None

    def kill(self) -> None:
        """End it with SIGKILL."""
        self._killed.add(self.pid)
        self._surroundings.notebook.note("killed", pid=self.pid)
        self._send(signal.SIGKILL)

    def freeze(self) -> int:
        """Have it stand still; return the process that does."""
        self._surroundings.notebook.note("frozen", pid=self.pid)
        self._send(signal.SIGSTOP)
        return self.pid

    def thaw(self) -> None:
        """Let it go on."""
        self._send(signal.SIGCONT)
        self._surroundings.notebook.note("thawed", pid=self.pid)

    def terminate(self) -> None:
        """Ask it to stop; another is started after it."""
        self._stopped.add(self.pid)
        self._surroundings.notebook.note("terminated", pid=self.pid)
        self._send(signal.SIGTERM)

    async def end(self) -> None:
        """Have it stop for good, and wait for that."""
        self._is_to_end = True
        if self.is_running:
            self._surroundings.notebook.note("terminated", pid=self.pid)
            self._send(signal.SIGCONT)
            self._send(signal.SIGTERM)
        if self._watch is None:
            return
        done, _ = await asyncio.wait([self._watch], timeout=STOP_WITHIN)
        if not done:
            self._surroundings.notebook.note("did_not_stop", pid=self.pid)
            self._send(signal.SIGKILL)
        await self._watch

    def _send(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)

    async def _start_process(self) -> None:
        command = ("-m", "pgqueue", "worker", "faults.app:pgq", *self._options)
        self._process = await self._surroundings.start(f"worker-{self.name}", *command, **self._environment)
        self._surroundings.notebook.note("worker_started", pid=self.pid, name=self.name)

    async def _watch_process(self) -> None:
        while True:
            assert self._process is not None
            code = await self._process.wait()
            self._surroundings.notebook.note("worker_ended", pid=self.pid, name=self.name, code=code)
            if not self._is_to_end and self.pid not in self._killed:
                (self.stops if self.pid in self._stopped else self.exits).append(code)
            if self._has_to_end() or self._restart_after is None:
                return
            await asyncio.sleep(self._restart_after)
            if self._has_to_end():
                return
            await self._start_process()
            if self._has_to_end():
                # It was told while the process was being made.
                self._send(signal.SIGTERM)

    def _has_to_end(self) -> bool:
        return self._is_to_end


class EnqueuerProcess:
    """An enqueuer, which ends when its time is over."""

    def __init__(self, surroundings: Surroundings, name: str, load: Mapping[str, Any]) -> None:
        self._surroundings = surroundings
        self._name = name
        self._load = load
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it."""
        self._process = await self._surroundings.start(
            f"enqueuer-{self._name}", "-m", "faults.enqueuer", json.dumps(self._load)
        )

    async def end(self) -> int:
        """Wait until it has ended by itself; return its exit code."""
        assert self._process is not None
        return await self._process.wait()

    def stop(self) -> None:
        """Ask it to make no more calls."""
        if self._process is not None and self._process.returncode is None:
            self._process.terminate()

    def kill(self) -> None:
        """End it with SIGKILL, wherever it is."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()


def children_of(pid: int) -> list[int]:
    """Return the processes that this one has started, and that are there."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def kill_child(surroundings: Surroundings, pid: int) -> None:
    """End a child of a worker or of a supervisor with SIGKILL."""
    surroundings.notebook.note("killed", pid=pid)
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def resident_mib(pid: int) -> float:
    """Return the resident set of a process, in MiB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
