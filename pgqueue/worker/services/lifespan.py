"""What a worker prepares before its first claim and cleans up after its last attempt: its state.

It runs in one asyncio task of its own, from the first step to the last: cancel scopes and task groups have to
be left where they were entered, and whatever ends the worker, a cancellation too, must not cut it off.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any, Final

import anyio

from pgqueue.errors import ConfigurationError, ContextError, WorkerLifespanError
from pgqueue.model.checks import shown
from pgqueue.own_tasks import on_behalf_of
from pgqueue.tasks.middleware import Middleware, overriding

logger = logging.getLogger("pgqueue.worker")

LifespanFunction = Callable[[], AsyncIterator[Any] | AbstractAsyncContextManager[Any]]
"""An async generator function that yields the state of a worker, or one that returns a context manager."""

_NO_STATE: Final = object()


def read_lifespan(function: Any) -> Callable[[], AbstractAsyncContextManager[Any]]:
    """Return what opens the state of a worker. Raises ConfigurationError for what cannot."""
    if not callable(function):
        raise ConfigurationError(f"lifespan: it must be given a function, got {shown(function)}")
    try:
        inspect.signature(function).bind()
    except TypeError:
        raise ConfigurationError(
            f"lifespan: {shown(function)} must be callable without arguments; it is called once per worker"
        ) from None
    except ValueError:
        # Its parameters cannot be read. It is found out when it is called.
        pass
    if inspect.iscoroutinefunction(function) or inspect.isgeneratorfunction(function):
        raise ConfigurationError(
            f"lifespan: {shown(function)} must be an async generator function (`async def` with one "
            "`yield`), or return an async context manager"
        )
    return asynccontextmanager(function) if inspect.isasyncgenfunction(function) else function


class Lifespan:
    """Owns the state of one worker. *open_state*: see `read_lifespan`; None: the worker has no state."""

    def __init__(
        self,
        worker: str,
        open_state: Callable[[], AbstractAsyncContextManager[Any]] | None,
        middleware: Sequence[Middleware],
    ) -> None:
        self._worker = worker
        self._open = open_state
        concerned = {*overriding(middleware, "boot"), *overriding(middleware, "shutdown")}
        self._middleware = [each for each in middleware if each in concerned]
        self._state: Any = _NO_STATE
        self._error: BaseException | None = None
        self._running: asyncio.Task[None] | None = None
        self.ready, self._ending = asyncio.Event(), asyncio.Event()

    @property
    def is_there(self) -> bool:
        """Whether there is anything to prepare or to clean up."""
        return self._open is not None or bool(self._middleware)

    @property
    def state(self) -> Any:
        """What the function yielded. Raises ContextError if there is none."""
        if self._state is _NO_STATE:
            raise ContextError(
                "this worker has no state: declare it with an async generator function, `@pgq.lifespan`"
                if self._open is None
                else "the state of this worker is not open: its lifespan has not begun, or has ended"
            )
        return self._state

    async def start(self, stopping: anyio.Event, *, broken: Callable[[], object] | None = None) -> bool:
        """Prepare; return whether that was done before *stopping* was set.

        *broken* is called if the lifespan ends by itself later on. Raises WorkerLifespanError.
        """
        if not self.is_there:
            return True
        # What the user's code cancels is not the worker's.
        with on_behalf_of(f"the lifespan of worker {self._worker}"):
            self._running = asyncio.create_task(self._live(), name=f"pgqueue lifespan of {self._worker}")
        waits = [asyncio.ensure_future(event.wait()) for event in (self.ready, stopping)]
        try:
            await asyncio.wait((self._running, *waits), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waits:
                each.cancel()
        if self._running.done():
            raise self._failed("its lifespan failed at the start, and nothing was claimed")
        if self.ready.is_set() and broken is not None:
            self._running.add_done_callback(lambda _: None if self._ending.is_set() else broken())
        return self.ready.is_set()

    async def end(self, within: float) -> None:
        """Clean up. What takes longer than *within* seconds is cancelled. Raises WorkerLifespanError."""
        if self._running is None:
            return
        was_ready, ended_before = self.ready.is_set(), self._running.done()
        self._ending.set()
        if was_ready:
            await asyncio.wait((self._running,), timeout=within)
        if not self._running.done():
            if was_ready:
                logger.error(
                    "worker %s: its lifespan did not end within %g s; cancelling it", self._worker, within
                )
            self._running.cancel()
            await asyncio.wait((self._running,), timeout=within)
        if not self._running.done():
            logger.error("worker %s: its lifespan ignores its cancellation; leaving it", self._worker)
        elif was_ready and (ended_before or self._error is not None):
            raise self._failed(
                "its lifespan ended while the worker was running"
                if ended_before
                else "its lifespan failed at the end; no job is concerned"
            )

    def _failed(self, what: str) -> WorkerLifespanError:
        error = self._error
        told = "something cancelled it" if error is None else f"{type(error).__name__}: {error}"
        failure = WorkerLifespanError(f"worker {self._worker}: {what}: {told}")
        failure.__cause__ = error
        return failure

    async def _live(self) -> None:
        try:
            async with AsyncExitStack() as stack:
                for each in self._middleware:
                    await each.boot(self._worker)
                    stack.push_async_callback(partial(each.shutdown, self._worker))
                if self._open is not None:
                    self._state = await stack.enter_async_context(self._open())
                self.ready.set()
                await self._ending.wait()
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            # It is the user's: it may raise anything, and a SystemExit would end the loop of the worker.
            self._error = error
        finally:
            self._state = _NO_STATE
