"""Tells of jobs that have failed for good: to observers, and to the hooks that the application registered.

Beside the finisher, which does not wait for it: what is told here is committed already. At most once: a
worker that dies tells nobody, and the dead letters themselves are what is kept.
"""

from __future__ import annotations

import inspect
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import cast
from uuid import UUID

import anyio
import anyio.to_thread

from pgqueue.database.patience import persist
from pgqueue.database.pool import Link
from pgqueue.events.kinds import DeadLettersEntered
from pgqueue.events.observers import Observers
from pgqueue.model.dead_letters import DeadLetter
from pgqueue.store import Store

logger = logging.getLogger("pgqueue.worker")

Hook = Callable[[DeadLetter], Awaitable[None] | None]

MAX_WAITING = 10_000
"""Dead letters that wait to be told of; more are not told of."""
BATCH = 100
HOOK_LIMIT = 30.0
"""Seconds that one hook may take."""


class Deaths:
    """Owns what is yet to be told."""

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
            logger.warning("%d dead letters are not told of: %d wait already", dropped, MAX_WAITING)
        self._wakeup.set()

    async def flush(self) -> None:
        """Wait until everything has been told."""
        while self._waiting or self._is_telling:
            self._idle = anyio.Event()
            await self._idle.wait()

    async def run(self) -> None:
        """Tell until cancelled."""
        while True:
            self._wakeup = anyio.Event()
            if not self._waiting:
                await self._wakeup.wait()
            self._is_telling = True
            ids = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]

            async def read(ids: Sequence[UUID] = ids) -> list[DeadLetter]:
                async with self._link.use() as connection:
                    return await self._store.read_letters(connection, ids)

            letters = await persist("reading dead letters", read)
            if letters:
                self._observers.emit(DeadLettersEntered(letters))
            for letter in letters:
                for hook in self._hooks:
                    await self._call(hook, letter)
            self._is_telling = False
            self._idle.set()

    async def _call(self, hook: Hook, letter: DeadLetter) -> None:
        try:
            with anyio.fail_after(HOOK_LIMIT):
                if _is_async(hook):
                    await cast(Callable[[DeadLetter], Awaitable[None]], hook)(letter)
                else:
                    # In a thread that is given up when its time is over: it may block.
                    call = cast(Callable[[DeadLetter], None], hook)
                    await anyio.to_thread.run_sync(call, letter, abandon_on_cancel=True)
        except Exception:
            # The hook is the user's own: whatever it raises is its own affair.
            logger.exception("on_dead hook %r failed at job %s", hook, letter.job_id)


def _is_async(hook: Hook) -> bool:
    return inspect.iscoroutinefunction(hook) or inspect.iscoroutinefunction(type(hook).__call__)
