"""Tasks that run in child processes of a worker."""

from __future__ import annotations

import asyncio
import ctypes
import functools
import os
import signal
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import anyio
from pydantic import BaseModel, Field, SecretStr

from pgqueue import Depends, JobContext, PgQueue, SoftTimeLimitExceeded, current_job

DSN = "PGQUEUE_TEST_DSN"
SLOW_START = "PGQUEUE_TEST_SLOW_START"
"""Seconds that a child takes longer to import this."""

time.sleep(float(os.environ.get(SLOW_START, "0")))


class Noisy(Exception):  # noqa: N818
    """Of this module alone."""


pgq = PgQueue(os.environ.get(DSN, "postgresql://not-a-worker-process/"))


def note(sign: Path) -> None:
    """Write the process id to *sign*."""
    with sign.open("a") as file:
        print(os.getpid(), file=file)


@pgq.task(isolation="process", max_retries=0)
def add(a: int, b: int) -> tuple[int, int, str]:
    """Compute."""
    return a + b, os.getpid(), str(current_job().job_id)


@pgq.task(isolation="process", max_retries=0)
async def add_async(context: JobContext, a: int, b: int) -> tuple[int, int, str]:
    """Compute, in a coroutine."""
    await asyncio.sleep(0)
    print("this is not the protocol", flush=True)  # noqa: T201
    print('{"outcome": null}', file=sys.stderr, flush=True)  # noqa: T201
    return a + b, os.getpid(), str(context.job_id)


@pgq.task(isolation="process")
def hold_in_child() -> tuple[float, float]:
    """Say from when to when it held what only one may."""
    with pgq.mutex("door"):
        began_at = time.monotonic()
        time.sleep(0.02)
        return began_at, time.monotonic()


@pgq.task(isolation="process")
async def hold_in_child_async() -> tuple[float, float]:
    """Say it, in a coroutine."""
    async with pgq.mutex("door"):
        began_at = time.monotonic()
        await asyncio.sleep(0.02)
        return began_at, time.monotonic()


class Receipt(BaseModel):
    """What JSON has no type for, and an alias."""

    charge_id: str = Field(alias="chargeId")
    at: datetime
    password: SecretStr
    ratios: list[Decimal]


@pgq.task(isolation="process", max_retries=0)
async def echo(ctx: JobContext, receipt: Receipt, raw: bytes) -> tuple[Receipt, bytes, Receipt, str]:
    """Return what came, also through a step, and the secret."""
    return receipt, raw, await ctx.step("same", same, receipt), receipt.password.get_secret_value()


async def same(receipt: Receipt) -> Receipt:
    """Return what came."""
    return receipt


@pgq.task(isolation="process", max_retries=0)
def untyped() -> Any:
    """Return what does not come back."""
    return {"a": [(1, 2)]}


@pgq.task(isolation="process", max_retries=0)
async def untyped_step(ctx: JobContext) -> None:
    """Return what does not come back from a step."""
    await ctx.step("same", lambda: {"a": {1}})


def traced(function: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap as decorators of tracing do."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


@pgq.task(isolation="process", max_retries=0)
@traced
async def add_wrapped(a: int, b: int) -> int:
    """Compute, in a coroutine that looks like a function."""
    await asyncio.sleep(0)
    return a + b


@pgq.task(isolation="process", max_retries=0)
@traced
async def never_read(a: int):  # type: ignore[no-untyped-def]  # with one, it would be refused
    """Return a generator, which nothing reads."""
    yield a


@pgq.task(isolation="process", max_retries=1, default_retry_delay=0.001)
async def cancel_itself() -> None:
    """Be cancelled, by nobody else."""
    runner = asyncio.current_task()
    assert runner is not None
    runner.cancel()
    await asyncio.sleep(3600)


@pgq.task(isolation="process", max_retries=0)
async def leave_a_scope(context: JobContext) -> int:
    """Return with a transaction, and with a cancel scope that cancels this asyncio task for ever."""
    async with context.transaction() as connection:
        await connection.execute("select 1")
    scope = anyio.CancelScope()
    scope.__enter__()
    scope.cancel()
    return 1


@pgq.task(isolation="process", max_retries=1, default_retry_delay=0.001)
def fail(message: str) -> None:
    """Raise."""
    raise Noisy(message)


@pgq.task(isolation="process", max_retries=0, queue="died")
def die(how: str) -> None:
    """End the process."""
    if how == "exit":
        os._exit(3)
    if how == "segfault":
        ctypes.string_at(0)
    if how == "realtime":
        os.kill(os.getpid(), 40)
    os.kill(os.getpid(), signal.SIGKILL)


@pgq.task(isolation="process", max_retries=0, timeout=4)
def block(sign: Path) -> None:
    """Wait where no exception can be raised, having started another program."""
    note(sign)
    if os.fork() == 0:
        note(sign)
    while True:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})
        threading.Event().wait()


@pgq.task(isolation="process", max_retries=0, timeout=4)
async def block_async(sign: Path) -> None:
    """Block the event loop."""
    note(sign)
    time.sleep(3600)  # noqa: ASYNC251


@pgq.task(isolation="process", soft_timeout=1, timeout=3600, max_retries=0)
def rest(*, catches: bool) -> str:
    """Sleep in one long call."""
    try:
        time.sleep(3600)
    except SoftTimeLimitExceeded:
        if catches:
            return "cleaned up"
        raise
    return "never told"


@pgq.task(isolation="process", soft_timeout=1, timeout=3600, max_retries=0)
async def rest_async(*, catches: bool) -> str:
    """Sleep in a coroutine."""
    try:
        await asyncio.sleep(3600)
    except SoftTimeLimitExceeded:
        if catches:
            return "cleaned up"
        raise
    return "never told"


@pgq.task(isolation="process")
async def hold(sign: Path, ended: Path) -> None:
    """Wait for ever, and say when it is over."""
    note(sign)
    try:
        await asyncio.sleep(3600)
    finally:
        note(ended)


@pgq.task(isolation="process", max_retries=0)
async def write(context: JobContext, text: str) -> str:
    """Write to the database in the job's transaction, and enqueue another job."""
    context.progress(1, 2)
    async with context.transaction() as connection:
        await connection.execute("insert into written values ($1)", text)
    await add.options(queue="later").enqueue(1, 2)
    return text


async def main() -> None:
    """Work until killed."""
    async with pgq, pgq.worker():
        await asyncio.Event().wait()


def make_local() -> Any:
    """Return a function that no child could import."""

    def inner() -> None: ...

    return inner


SIGNS = "PGQUEUE_TEST_SIGNS"


@pgq.lifespan
async def lifespan() -> AsyncIterator[list[int]]:
    """Leave a sign of the beginning, and of the end."""
    signs = Path(os.environ[SIGNS]) if SIGNS in os.environ else None
    if signs is not None:
        (signs / f"began {os.getpid()}").touch()
    yield []
    if signs is not None:
        (signs / f"ended {os.getpid()}").touch()


@pgq.task(isolation="process", max_retries=0)
def stateful(ctx: JobContext[list[int]], pid: int = Depends(os.getpid)) -> tuple[int, int]:
    """Say how many have come here, to which process."""
    ctx.state.append(1)
    return len(ctx.state), pid
