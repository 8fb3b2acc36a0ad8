"""Tells observers, and the hooks that the application registered, of jobs that have failed permanently.

It works beside the finisher, which does not wait for it: the failures that it tells of are committed. Each is
told at most once. A worker that dies does not tell of what it still has; the dead letters themselves are what
is kept.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import cast
from uuid import UUID

import anyio
import anyio.to_thread

from pgqueue.database.failing import log_fields
from pgqueue.database.link import Link
from pgqueue.database.patience import persist
from pgqueue.events.kinds import DeadLettersEntered
from pgqueue.events.observers import Observers
from pgqueue.model.dead_letters import DeadLetter
from pgqueue.own_tasks import on_behalf_of
from pgqueue.store import Store
from pgqueue.tasks.wrapping import is_awaitable, is_coroutine_function

logger = logging.getLogger("pgqueue.worker")

Hook = Callable[[DeadLetter], Awaitable[None] | None]

MAX_WAITING = 10_000
"""Dead letters that may be queued here; more are skipped."""
BATCH = 100
HOOK_LIMIT = 30.0
"""Seconds that one hook may take."""


class DeadLetterHooks:
    """Owns the notifications that are still to be sent."""

    def __init__(self, store: Store, link: Link, observers: Observers, hooks: Sequence[Hook]) -> None:
        self._store = store
        self._link = link
        self._observers = observers
        self._hooks = hooks
        self._waiting: deque[UUID] = deque()
        self._is_telling = False
        self._wakeup = anyio.Event()
        self._idle = anyio.Event()

    def add(self, ids: Iterable[UUID]) -> None:
        """Take note of jobs whose failure is committed."""
        if not self._hooks and not self._observers.want(DeadLettersEntered):
            return
        dropped = 0
        for job_id in ids:
            if len(self._waiting) < MAX_WAITING:
                self._waiting.append(job_id)
            else:
                dropped += 1
        if dropped:
            logger.warning(
                "skipping notifications for %d dead letters: %d are already queued", dropped, MAX_WAITING
            )
        self._wakeup.set()

    async def flush(self) -> None:
        """Wait until all hooks have been called."""
        while self._waiting or self._is_telling:
            self._idle = anyio.Event()
            await self._idle.wait()

    async def run(self) -> None:
        """Call hooks until cancelled."""
        self._is_telling = False
        while True:
            self._wakeup = anyio.Event()
            if not self._waiting:
                await self._wakeup.wait()
            self._is_telling = True
            ids = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
            letters = await self._read(ids)
            if letters:
                self._observers.emit(DeadLettersEntered(letters))
            for letter in letters:
                for hook in self._hooks:
                    await self._call(hook, letter)
            self._is_telling = False
            self._idle.set()

    async def _read(self, ids: Sequence[UUID]) -> list[DeadLetter]:
        """Read dead letters; leave out those that cannot be read."""

        async def read() -> list[DeadLetter]:
            async with self._link.use() as connection:
                return await self._store.read_letters(connection, ids)

        try:
            return await persist("reading dead letters", read)
        except Exception as error:
            if len(ids) != 1:
                return [letter for job_id in ids for letter in await self._read([job_id])]
            logger.error(  # what fails is a statement: its stack says nothing
                "dead letter %s cannot be read (%s: %s); its hooks are not called",
                ids[0],
                type(error).__name__,
                error,
                extra=log_fields(error),
            )
            return []

    async def _call(self, hook: Hook, letter: DeadLetter) -> None:
        # In an asyncio task of its own: the hook may cancel the one that runs it.
        with on_behalf_of(f"on_dead hook {hook!r}") as who:
            running = asyncio.create_task(_run(hook, letter))
        try:
            await asyncio.wait((running,), timeout=HOOK_LIMIT)
        finally:
            with on_behalf_of(who):
                running.cancel()
        if not running.done():
            # Cancelled now; one that ignores that goes on, and the next hook need not wait for it.
            logger.error("on_dead hook %r took longer than %g s for job %s", hook, HOOK_LIMIT, letter.job_id)
        elif running.cancelled():
            logger.error("on_dead hook %r cancelled itself for job %s; ignoring it", hook, letter.job_id)


async def _run(hook: Hook, letter: DeadLetter) -> None:
    try:
        if is_coroutine_function(hook):
            await cast(Callable[[DeadLetter], Awaitable[None]], hook)(letter)
        else:
            # In a thread that is abandoned when its time is over: it may block.
            value = await anyio.to_thread.run_sync(hook, letter, abandon_on_cancel=True)
            if value is not None and is_awaitable(value):
                # A wrapper of a coroutine function returns its coroutine.
                await value
    except asyncio.CancelledError:
        raise
    except BaseException:
        # The hook is the user's: it may raise anything, and a SystemExit would end the worker's loop.
        logger.exception("on_dead hook %r raised an error for job %s; ignoring it", hook, letter.job_id)
