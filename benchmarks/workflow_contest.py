"""What the contestants of `workflow_peers.py` share: how a program is told what to do. See `contest.py`.

A program submits a small chord or chain first, which brings its worker up, and then the one that is measured.
Every member, body and link notes on the board that it ran: numbers go on, so that each has a cell of its own.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from abc import abstractmethod
from collections.abc import Callable

from contest import LOOK, Library, Settings, board, run, say

WARM_UP = 10
"""Members or links of the small one; the chord's body comes on top."""


class Composer(Library):
    """How a library composes jobs."""

    @abstractmethod
    async def submit_chord(self, numbers: range, body: int) -> None:
        """Enqueue members with these numbers, and a body that takes their results; it has number *body*."""

    @abstractmethod
    async def submit_chain(self, numbers: range) -> None:
        """Enqueue links with these numbers: each takes its number as the result of the one before."""


def main(make: Callable[[], Composer]) -> None:
    """Be what the command line says: prepare, chord, chain or work."""
    logging.basicConfig(level=logging.WARNING)
    composer, jobs = make(), Settings.from_environment().jobs
    match sys.argv[1:]:
        case ["work"]:
            composer.work()
        case ["prepare"]:
            say(run(composer.prepare(), coroutines=composer.coroutines))
        case [("chord" | "chain") as shape]:
            say(run(_submit(composer, shape, jobs), coroutines=composer.coroutines))
        case other:
            sys.exit(f"contest: no such role: {other}")


async def _submit(composer: Composer, shape: str, jobs: int) -> list[float]:
    """Submit the small one, wait for it, then the large one; return when its call began and when it ended."""
    notes, first = board(), WARM_UP + (shape == "chord")
    async with composer:
        await _submit_one(composer, shape, range(first))
        while not all(notes.runs[:first]):  # noqa: ASYNC110  # another process writes it
            await asyncio.sleep(LOOK)
        started = time.monotonic()
        await _submit_one(composer, shape, range(first, jobs))
        return [started, time.monotonic()]


async def _submit_one(composer: Composer, shape: str, numbers: range) -> None:
    if shape == "chord":
        await composer.submit_chord(numbers[:-1], numbers[-1])
    else:
        await composer.submit_chain(numbers)
