"""Tasks whose handlers cancel or stop everything that they find, for worker processes under test."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any, NoReturn

import anyio.from_thread

from pgqueue import PgQueue

pgq = PgQueue(
    os.environ.get("PGQUEUE_TEST_DSN", "postgresql://not-a-worker-process/"), max_retries=0, timeout=30
)
LONG = 3600


def all_but(spared: Iterable[asyncio.Task[Any]] = ()) -> set[asyncio.Task[Any]]:
    """Cancel all asyncio tasks of the loop but *spared*, and return them."""
    tasks = asyncio.all_tasks() - set(spared)
    for task in tasks:
        task.cancel()
    return tasks


async def cancels_all() -> None:
    """Cancel every asyncio task of the loop, its own too."""
    all_but()
    await asyncio.sleep(LONG)


async def cancels_all_others_and_waits() -> None:
    """Do what a shutdown does, until the hard limit: that is passed on to what is awaited."""
    me = asyncio.current_task()
    assert me is not None
    await asyncio.gather(*all_but([me]), return_exceptions=True)


async def cancels_all_in_a_task() -> None:
    """Have a child do it."""

    async def child() -> None:
        all_but()

    await asyncio.create_task(child())
    await asyncio.sleep(LONG)


async def cancels_all_in_a_callback() -> None:
    """Have a timer do it."""
    asyncio.get_running_loop().call_later(0.01, all_but)
    await asyncio.sleep(LONG)


def cancels_all_in_a_thread() -> None:
    """Do it from a thread."""
    anyio.from_thread.run_sync(all_but)
    time.sleep(60)


async def exits() -> None:
    """Exit."""
    raise SystemExit(0)


async def is_interrupted() -> None:
    """Raise what Ctrl-C raises."""
    raise KeyboardInterrupt


async def exits_in_a_task() -> None:
    """Exit in a child, which takes the loop along."""
    await asyncio.create_task(exits())


async def is_interrupted_in_a_task() -> None:
    """Raise what Ctrl-C raises in a child."""
    await asyncio.create_task(is_interrupted())


async def exits_in_a_callback() -> None:
    """Exit in a callback."""

    def leave() -> NoReturn:
        raise SystemExit(0)

    asyncio.get_running_loop().call_soon(leave)
    await asyncio.sleep(0.1)
    raise ValueError


async def stops_the_loop() -> None:
    """Stop the loop."""
    asyncio.get_running_loop().stop()
    await asyncio.sleep(0.1)
    raise ValueError


def exits_in_a_thread() -> None:
    """Exit in a thread."""
    raise SystemExit(0)


WAYS: list[Callable[[], Awaitable[None] | None]] = [
    cancels_all, cancels_all_in_a_task, cancels_all_in_a_callback, cancels_all_in_a_thread,
    exits, is_interrupted, exits_in_a_task,
    is_interrupted_in_a_task, exits_in_a_callback, stops_the_loop, exits_in_a_thread,
    cancels_all_others_and_waits,
]  # fmt: skip
IN_A_CHILD = [cancels_all, exits, is_interrupted, exits_in_a_task]

for _way in WAYS:
    _limits: dict[str, Any] = {"timeout": 0.5} if _way is cancels_all_others_and_waits else {}
    pgq.task(**_limits)(_way)
for _way in IN_A_CHILD:
    pgq.task(name=f"{_way.__name__}_in_a_child", isolation="process", timeout=5)(_way)


def _sign(folder: str) -> Path:
    with (Path(folder) / "signs").open("a") as signs:
        signs.write(f"{os.getpid()}\n")
    return Path(folder) / "until"


def _stand_by(folder: str) -> str:
    until = _sign(folder)
    while not until.exists():
        time.sleep(0.02)
    return "done"


@pgq.task(timeout=None)
async def stands_by(folder: str) -> str:
    """Wait until a file is there."""
    until = _sign(folder)
    while not until.exists():  # noqa: ASYNC110  # another process makes it
        await asyncio.sleep(0.02)
    return "done"


@pgq.task(timeout=None)
def stands_by_in_a_thread(folder: str) -> str:
    """Wait until a file is there."""
    return _stand_by(folder)


@pgq.task(isolation="process", timeout=None)
def stands_by_in_a_child(folder: str) -> str:
    """Wait until a file is there."""
    return _stand_by(folder)


@pgq.task
async def next_one() -> str:
    """Return at once."""
    return "ran"
