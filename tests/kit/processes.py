"""Worker processes under test, started and ended as an operator does."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kit.waiting import eventually

TASKS = '''
import asyncio
import os
import threading
from pathlib import Path

from pgqueue import JobContext, PgQueue

pgq = PgQueue(os.environ["PGQUEUE_TEST_DSN"], connect_timeout=1)
not_a_queue = 7


@pgq.task
async def add(a: int, b: int) -> int:
    return a + b


@pgq.task(queue="other")
async def elsewhere() -> int:
    return os.getpid()


@pgq.task(max_retries=0)
async def fail() -> None:
    raise ValueError("it always fails")


@pgq.task
async def hold(sign: Path, until: Path) -> str:
    """Write the process id to *sign*, then wait for *until* to exist."""
    with sign.open("a") as file:
        print(os.getpid(), file=file)
    while not until.exists():
        await asyncio.sleep(0.01)
    return "held"


@pgq.task
def hold_a_thread(sign: Path) -> None:
    sign.touch()
    threading.Event().wait()


@pgq.task
async def refuse_to_stop(sign: Path) -> None:
    sign.touch()
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            pass


@pgq.task(queue="other", timeout=2, max_retries=0)
async def block(sign: Path) -> None:
    """Block the whole process, for good."""
    with sign.open("a") as file:
        print(os.getpid(), file=file)
    threading.Event().wait()
'''


DEADLINE = 180
"""Seconds that a process may take for anything: on a loaded machine Python alone has taken 25 to start."""

LOOPS = {"asyncio": "--no-uvloop", "uvloop": "--uvloop"}
"""What a worker is told, by the value of PGQUEUE_TEST_LOOP."""


class Processes:
    """Starts `pgqueue` with *arguments* in the folder of the task module, and ends what is left."""

    def __init__(self, folder: Path, dsn: str) -> None:
        self._folder = folder
        self.environment = {**os.environ, "PGQUEUE_TEST_DSN": dsn}
        self.environment.pop("PGQUEUE_DSN", None)
        self._started: list[subprocess.Popen[str]] = []

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        loop = LOOPS.get(os.environ.get("PGQUEUE_TEST_LOOP", ""))
        if loop and arguments[0] == "worker" and not {*LOOPS.values()} & {*arguments}:
            arguments = (*arguments, loop)
        with (self._folder / f"stderr-{len(self._started)}").open("w") as stderr:
            process = subprocess.Popen(
                # -P: the current directory is on the path only if pgqueue sees to it.
                [sys.executable, "-P", "-m", "pgqueue", *arguments],
                cwd=self._folder,
                env=self.environment,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                process_group=0,
            )
        self._started.append(process)
        return process

    def log(self, process: subprocess.Popen[str]) -> str:
        return (self._folder / f"stderr-{self._started.index(process)}").read_text()

    async def logged(self, process: subprocess.Popen[str], text: str) -> None:
        """Wait until *process* has logged *text*."""

        async def has_logged() -> bool:
            assert process.poll() is None, self.log(process)
            return text in self.log(process)

        await eventually(has_logged, within=DEADLINE)

    async def ended(self, process: subprocess.Popen[str]) -> tuple[int, str, str]:
        """Wait for *process*; return its exit code, stdout and stderr."""
        stdout, _ = await asyncio.to_thread(process.communicate, timeout=DEADLINE)
        return process.returncode, stdout, self.log(process)

    async def run(self, *arguments: str) -> tuple[int, str, str]:
        return await self.ended(self.start(*arguments))

    def end(self) -> None:
        for process in self._started:
            if process.poll() is None:
                # Not SIGKILL: a supervisor is to take its children with it.
                process.terminate()
                process.terminate()
                try:
                    process.wait(DEADLINE)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
            if process.stdout is not None:
                process.stdout.close()


@contextmanager
def processes_in(folder: Path, dsn: str) -> Iterator[Processes]:
    (folder / "jobs_here.py").write_text(TASKS)
    processes = Processes(folder, dsn)
    try:
        yield processes
    finally:
        processes.end()


def lines_of(path: Path) -> list[str]:
    """Return the whole lines of a file that may not be there yet."""
    return path.read_text().split("\n")[:-1] if path.exists() else []


async def wrote_pid(path: Path, count: int = 1) -> list[int]:
    """Wait until *count* process ids stand in *path*, and return them."""

    async def has_them() -> bool:
        return len(lines_of(path)) >= count

    await eventually(has_them, within=DEADLINE)
    return [int(line) for line in lines_of(path)]


async def has_logged(processes: Processes, process: subprocess.Popen[str], text: str, times: int) -> bool:
    return processes.log(process).count(text) >= times


ADDRESS = re.compile(r"metrics: (http://\S+)/metrics")


async def address_of(processes: Processes, worker: subprocess.Popen[str]) -> str:
    """Return where *worker* serves its metrics, once it does."""
    await processes.logged(worker, "/metrics")
    found = ADDRESS.search(processes.log(worker))
    assert found is not None
    return found[1]
