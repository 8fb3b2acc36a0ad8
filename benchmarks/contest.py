"""What contestants share: how a program is told what to do and how handlers are counted.

A program runs in the environment of its own library, so this needs nothing but the standard library.
`peers.py` starts it as `python with_x.py ROLE`, and says everything else by environment variables, which
reach the worker's child processes too.
"""

from __future__ import annotations

import asyncio
import json
import logging
import mmap
import os
import signal
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

CONCURRENCY = 100
"""Jobs that a worker runs side by side, where that can be said."""

KEEP = 24 * 3600
"""Seconds that results are kept, where that can be said: longer than any run."""

AT_ONCE = 10_000
"""Jobs in one call of a contestant's bulk API."""

PAUSE = 0.03
"""Seconds between two jobs whose pick-up is timed: an idle worker has gone to sleep by then."""

WARM_UP = 10
"""Jobs before the first whose pick-up is timed: the worker comes up, statements are prepared."""

WAITING = 20_000
"""Jobs that wait, at most, for a worker that is fed."""

SERVING = 2000
"""Jobs in one call of the bulk API while a worker is fed."""

T = TypeVar("T")

LOOK = 0.002
"""Seconds between two looks at the board or for outcomes while a drain is timed."""

_VARIABLE = "PGQUEUE_CONTEST_"


@dataclass(frozen=True)
class Settings:
    """What a program works on."""

    url: str = ""
    """The server: a database of the contestant's own, or a Redis of its own."""
    board: str = ""
    """The file of the board."""
    jobs: int = 0
    """How many jobs, numbered from 0."""
    loop: str = "uvloop"
    """The event loop: uvloop or asyncio."""

    @classmethod
    def from_environment(cls) -> Self:
        """Read what `environment` wrote."""
        value = {name: os.environ[_VARIABLE + name.upper()] for name in ("url", "board", "jobs", "loop")}
        return cls(value["url"], value["board"], int(value["jobs"]), value["loop"])

    def environment(self) -> dict[str, str]:
        """Return the environment variables that say this to a program."""
        return {_VARIABLE + name.upper(): str(value) for name, value in asdict(self).items()}


class Board:
    """Where handlers note that they ran: memory shared by all processes, with cells for each job's number.

    A note costs a handler well under a microsecond, needs no lock, and is the same for everybody.
    """

    def __init__(self, file: str, jobs: int) -> None:
        with Path(file).open("r+b") as opened:
            shared = memoryview(mmap.mmap(opened.fileno(), 9 * jobs))
        self.started = shared[: 8 * jobs].cast("d")
        """When each job's handler started, by the machine's monotonic clock; 0 where it did not yet."""
        self.runs = shared[8 * jobs :]
        """How often each job's handler ran."""

    @staticmethod
    def create(file: Path, jobs: int) -> Board:
        """Make the file of a board on which nothing ran."""
        file.write_bytes(bytes(9 * jobs))
        return Board(str(file), jobs)

    def ran(self, number: int) -> None:
        """Note that the handler of this job ran; for a handler that does nothing, start and end are one."""
        self.started[number] = time.monotonic()
        self.runs[number] += 1

    def ran_in_all(self) -> int:
        """Count how often any handler ran."""
        return sum(self.runs.tobytes())

    def unrun(self) -> int:
        """Count the jobs that did not run yet."""
        return self.runs.tobytes().count(0)


def board() -> Board:
    """Return the board that the environment names."""
    settings = Settings.from_environment()
    return Board(settings.board, settings.jobs)


def arguments(number: int) -> tuple[str, int, float]:
    """Return the three arguments of a job."""
    return "user@example.com", number, 1.5


class Library(ABC):
    """One library: how it makes its schema and works.

    As a context it is a client with its connections open.
    """

    coroutines: ClassVar[bool] = True
    """Whether it works on an event loop; a library that does not has no use for a fast one."""

    def __init__(self) -> None:
        self.url = Settings.from_environment().url

    async def __aenter__(self) -> Self:
        """Open the client's connections."""
        return self

    async def __aexit__(self, *_: object) -> None:  # noqa: B027  # some connect by themselves
        """Close them."""

    async def prepare(self) -> None:  # noqa: B027  # Redis needs nothing
        """Make what has to be there before the first job."""

    @abstractmethod
    def work(self) -> None:
        """Be a worker until SIGTERM."""


class Contestant(Library):
    """How a library enqueues and counts outcomes."""

    @abstractmethod
    async def enqueue_one(self, number: int) -> None:
        """Enqueue one job."""

    async def enqueue_many(self, numbers: range) -> None:
        """Enqueue jobs by the library's bulk API; without one, by single calls, many at once."""
        await side_by_side(self.enqueue_one, numbers)

    @abstractmethod
    async def outcomes(self) -> int:
        """Count the jobs that are kept as succeeded."""


async def side_by_side(call: Callable[[int], Awaitable[None]], numbers: Iterable[int]) -> None:
    """Make a call for each number, `CONCURRENCY` at a time."""
    left = iter(numbers)

    async def caller() -> None:
        for number in left:
            await call(number)

    await asyncio.gather(*(caller() for _ in range(CONCURRENCY)))


async def told_to_stop() -> None:
    """Wait for SIGTERM."""
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    await stopping.wait()


def run(main: Coroutine[Any, Any, T], *, coroutines: bool = True) -> T:
    """Run on the event loop that the environment names."""
    if coroutines and Settings.from_environment().loop == "uvloop":
        import uvloop

        return uvloop.run(main)
    return asyncio.run(main)


def main(make: Callable[[], Contestant]) -> None:
    """Be what the command line says: prepare, enqueue, watch, work, ping or feed."""
    logging.basicConfig(level=logging.WARNING)
    contestant, settings = make(), Settings.from_environment()
    roles = {"prepare": _prepare, "enqueue": _enqueue, "watch": _watch, "ping": _ping}
    match sys.argv[1:]:
        case ["feed"]:
            run(_feed(contestant, settings.jobs))
        case ["work"]:
            contestant.work()
        case [role] if role in roles:
            say(run(roles[role](contestant, settings.jobs), coroutines=contestant.coroutines))
        case other:
            sys.exit(f"contest: no such role: {other}")


def say(value: object) -> None:
    """Tell `peers.py`."""
    print(json.dumps(value), flush=True)


async def _prepare(contestant: Contestant, _jobs: int) -> None:
    await contestant.prepare()


async def _enqueue(contestant: Contestant, jobs: int) -> float:
    """Enqueue all jobs; return the seconds, connecting not among them."""
    async with contestant:
        started = time.monotonic()
        for first in range(0, jobs, AT_ONCE):
            await contestant.enqueue_many(range(first, min(first + AT_ONCE, jobs)))
        return time.monotonic() - started


async def _watch(contestant: Contestant, jobs: int) -> float:
    """Once every job ran, look until every outcome is kept; return when that was seen.

    Not before: counting outcomes takes something away from the worker.
    """
    notes = board()
    async with contestant:
        await contestant.outcomes()
        say("ready")
        while notes.unrun():  # noqa: ASYNC110  # other processes write it
            await asyncio.sleep(LOOK)
        while (kept := await contestant.outcomes()) < jobs:  # noqa: ASYNC110  # other processes keep them
            await asyncio.sleep(LOOK)
        seen = time.monotonic()
        if kept != jobs:
            sys.exit(f"contest: {kept} outcomes of {jobs} jobs")
        return seen


async def _ping(contestant: Contestant, jobs: int) -> list[float]:
    """Enqueue one job after the other, each to an idle worker; return the seconds from call to handler."""
    started, notes = [0.0] * jobs, board()
    async with contestant:
        for number in range(jobs):
            started[number] = time.monotonic()
            await contestant.enqueue_one(number)
            while not notes.started[number]:  # noqa: ASYNC110  # another process writes it
                await asyncio.sleep(PAUSE)
            await asyncio.sleep(PAUSE)
    return [there - then for then, there in zip(started, notes.started, strict=True)][WARM_UP:]


async def _feed(contestant: Contestant, numbers: int) -> None:
    """Enqueue for as long as the process lives, so that about as many jobs wait all the time.

    The jobs' numbers go round. A cell of the board holds 255 runs: there have to be numbers enough.
    """
    enqueued, notes = 0, board()
    async with contestant:
        while True:
            if enqueued - notes.ran_in_all() > WAITING - SERVING:
                await asyncio.sleep(0.05)
                continue
            first = enqueued % numbers
            size = min(SERVING, numbers - first)
            await contestant.enqueue_many(range(first, first + size))
            enqueued += size
