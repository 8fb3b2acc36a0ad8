"""Lends the connection of a blocking call to its coroutine, which runs in another thread.

Statements on it run in the thread of the call, to which the connection belongs. That one waits for the call
anyway. So a statement that waits for a lock holds up no other call, and a connection that may be used in one
thread only is used there.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING, TypeVar, cast

import anyio
from anyio.from_thread import BlockingPortal

from pgqueue.database.callers import Caller, Here, Row, Runner, RunsHere, as_text

if TYPE_CHECKING:
    from pgqueue.database.connection import Connection

T = TypeVar("T")

_Step = Callable[[], None]


class _InterruptedError(Exception):
    """Ends the coroutine of a call whose thread is interrupted."""


class Hand:
    """The thread of one call, which does what its coroutine asks for until that has ended."""

    def __init__(self) -> None:
        self._steps: SimpleQueue[_Step | None] = SimpleQueue()
        self._interruption: BaseException | None = None

    def call(self, portal: BlockingPortal, call: Callable[[], Awaitable[T]]) -> T:
        """Return what a call comes to in the event loop."""

        async def run() -> T:
            try:
                return await call()
            finally:
                # By itself and not by its future, which is done as soon as it is cancelled.
                self._steps.put(None)

        future = portal.start_task_soon(run)
        while True:
            try:
                step = self._steps.get()
                if step is None:
                    break
                step()
            except BaseException as error:
                # A signal's, while this waited. The connection is left as it was: so the call ends first.
                self._interruption = error
                future.cancel()
        if self._interruption is not None:
            raise self._interruption
        return future.result()

    async def run(self, function: Callable[[], T]) -> T:
        """Run *function* in the thread of the call; return what it returns."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()

        def step() -> None:
            try:
                value = function()
            except Exception as error:
                loop.call_soon_threadsafe(done.set_exception, error)
            except BaseException as error:
                # Raised in the event loop it would end that.
                self._interruption = error
                loop.call_soon_threadsafe(done.set_exception, _InterruptedError())
            else:
                loop.call_soon_threadsafe(done.set_result, value)

        self._steps.put(step)
        # Until it is done the connection is in use.
        with anyio.CancelScope(shield=True):
            await asyncio.wait([done])
        return done.result()


class LentConnection(Caller):
    """A synchronous connection as a coroutine uses it."""

    def __init__(self, hand: Hand, here: Here) -> None:
        self._hand = hand
        self._here = here

    async def is_in_transaction(self) -> bool:
        """Whether the caller has a transaction open."""
        return await self._hand.run(self._here.is_in_transaction)

    async def begins_itself(self) -> bool:
        """Whether its library begins one with the first statement."""
        return await self._hand.run(self._here.begins_itself)

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[None]:
        """Begin a transaction."""
        block = await self._hand.run(self._here.begin)
        await self._hand.run(block.__enter__)
        try:
            yield
        except BaseException as error:
            await self._hand.run(partial(block.__exit__, type(error), error, error.__traceback__))
            raise
        await self._hand.run(partial(block.__exit__, None, None, None))

    async def runner(self) -> tuple[Connection, object]:
        """Return what runs statements in the thread of the call, and the driver's connection."""
        runs, session = await self._hand.run(self._here.runner)
        return cast("Connection", _LentRunner(self._hand, runs)), session


class _LentRunner(Runner):
    def __init__(self, hand: Hand, runs: RunsHere) -> None:
        self._hand = hand
        self._runs = runs

    async def fetch(self, sql: str, *arguments: object) -> Sequence[Row]:
        given = [as_text(each) for each in arguments]
        return await self._hand.run(lambda: self._runs.fetch(sql, given))

    async def recover(self) -> None:
        await self._hand.run(self._runs.recover)
