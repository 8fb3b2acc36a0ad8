"""Tasks whose handlers have something large when they fail, in every way to fail."""

from __future__ import annotations

import asyncio
import logging
import os
import time
import weakref
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any, NoReturn
from weakref import WeakSet

from pgqueue import JobContext, PgQueue

pgq = PgQueue(os.environ.get("PGQUEUE_TEST_DSN", "postgresql://not-a-worker-process/"), max_retries=0)

alive: WeakSet[Large] = WeakSet()


class Large:
    """What a handler has in a local variable."""

    def __init__(self) -> None:
        self.content = bytearray(1024)
        alive.add(self)


def _raise() -> NoReturn:
    large = Large()
    raise ValueError(len(large.content))


async def _raise_later() -> NoReturn:
    large = Large()
    await asyncio.sleep(0.01)
    raise ValueError(len(large.content))


async def raises() -> None:
    """Raise before the first await."""
    _raise()


async def raises_later() -> None:
    """Raise after an await."""
    await _raise_later()


def raises_in_a_thread() -> None:
    """Raise."""
    _raise()


def _circle() -> NoReturn:
    large = Large()
    try:
        _raise()
    except ValueError as error:
        kept = error
    raise KeyError(len(large.content)) from kept


async def raises_in_a_circle() -> None:
    """Raise from what a local variable refers to."""
    await asyncio.sleep(0)
    _circle()


def raises_in_a_circle_in_a_thread() -> None:
    """Raise from what a local variable refers to."""
    _circle()


def raises_deep() -> None:
    """Raise through 500 frames, each with a cause of its own."""

    def down(depth: int) -> None:
        large = Large()
        if depth == 0:
            raise ValueError(len(large.content))
        try:
            down(depth - 1)
        except Exception as error:
            raise KeyError(depth) from error

    down(500)


async def raises_a_group() -> None:
    """Raise in several tasks of a group."""
    async with asyncio.TaskGroup() as group:
        group.create_task(_raise_later())
        group.create_task(_raise_later())
        group.create_task(_sleep())


async def raises_two_of_which_one_is_seen() -> None:
    """Raise in several tasks that are gathered."""
    await asyncio.gather(_raise_later(), _raise_later())


async def _sleep() -> None:
    large = Large()
    await asyncio.sleep(60)
    del large


async def waits_too_long() -> None:
    """Raise TimeoutError by a timeout of its own."""
    large = Large()
    await asyncio.wait_for(_sleep(), 0.01)
    del large


async def leaves_a_generator() -> None:
    """Leave an async generator half-read."""

    async def numbers() -> AsyncIterator[int]:
        large = Large()
        while large.content:
            yield 1

    async for number in numbers():
        raise ValueError(number)


async def retries(context: JobContext) -> None:
    """Ask for a retry because of an error."""
    large = Large()
    try:
        _raise()
    except ValueError as error:
        kept = error
    del large
    context.retry(exc=kept, countdown=1000)


async def logs() -> None:
    """Log the error, and raise it."""
    try:
        _raise()
    except ValueError:
        logging.getLogger("of.the.user").exception("it went wrong")
        raise


async def exceeds_its_soft_limit() -> None:
    """Wait."""
    await _sleep()


def exceeds_its_soft_limit_in_a_thread() -> None:
    """Wait, in a thread."""
    large = Large()
    for _ in range(600):
        time.sleep(0.01)
    del large


async def exceeds_its_hard_limit() -> None:
    """Wait."""
    await _sleep()


async def is_cancelled() -> None:
    """Wait."""
    await _sleep()


async def returns_too_much() -> str:
    """Return more than fits."""
    large = Large()
    return "x" * (len(large.content) * 2000)


async def returns_what_is_no_json() -> Any:
    """Return what cannot be encoded."""
    large = Large()
    return lambda: large


WAYS: list[Callable[..., Any]] = [
    raises, raises_later, raises_in_a_thread, raises_in_a_circle, raises_in_a_circle_in_a_thread, raises_deep,
    raises_a_group, raises_two_of_which_one_is_seen, waits_too_long, leaves_a_generator, retries, logs,
    exceeds_its_soft_limit, exceeds_its_soft_limit_in_a_thread, exceeds_its_hard_limit, is_cancelled,
    returns_too_much, returns_what_is_no_json,
]  # fmt: skip


def options_of(way: str) -> dict[str, Any]:
    """Return the options with which the handler *way* fails."""
    if "soft_limit" in way:
        return {"soft_timeout": 0.05, "timeout": 30}
    return {"soft_timeout": None, "timeout": 0.05 if "hard_limit" in way else 30}


for _way in WAYS:
    pgq.task(**options_of(_way.__name__))(_way)
    pgq.task(name=f"{_way.__name__}_in_a_child", isolation="process", **options_of(_way.__name__))(_way)


@pgq.task(isolation="process")
async def count_alive() -> int:
    """Return how many are left in the child, when the last is gone or after some seconds."""
    loop, gone = asyncio.get_running_loop(), asyncio.Event()
    for each in list(alive):
        weakref.finalize(each, loop.call_soon_threadsafe, gone.set)
        del each
    with suppress(TimeoutError):
        async with asyncio.timeout(5):
            while alive:
                gone.clear()
                await gone.wait()
    return len(alive)
