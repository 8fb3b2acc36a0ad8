"""The asyncio tasks that are pgqueue's own: what runs in a handler cannot cancel them.

Code in handlers cancels what it finds: a helper of a test suite, or a library's shutdown, goes through
`asyncio.all_tasks()`. A worker's loops are among them, and their end would be the end of the worker, with the
jobs of others. A task cannot tell later who cancelled it, nor whether it was meant. So who cancels is looked
at when it happens, by the context that handlers, their asyncio tasks, callbacks and threads run in.

Only `cancel` looks, so nothing else pays for it. A program that cancels its tasks outside of handlers (as
`asyncio.run` does at its end) is obeyed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final, TypeVar, cast

T = TypeVar("T")

current_attempt: Final[ContextVar[Any]] = ContextVar("pgqueue_running_attempt", default=None)
"""The attempt whose handler is running this code; None: no handler is."""
_on_behalf: Final[ContextVar[Any]] = ContextVar("pgqueue_on_behalf", default=None)
"""What else may cancel no own task: a hook of the user's, or an attempt that is being stopped."""

Refused = Callable[[asyncio.AbstractEventLoop, Any], object]
_told: Final[list[Refused]] = []


class OwnTask(asyncio.Task[Any]):
    """A task that code in a handler cannot cancel, unless it was made in that handler."""

    obeying: Callable[[], object] | None = None
    """Called when this is cancelled, before anything else has noticed."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any], **options: Any) -> None:
        # First: a coroutine that starts at once may be cancelled before it is back.
        self._made_by = _who()
        super().__init__(coroutine, **options)

    def cancel(self, msg: Any | None = None) -> bool:
        """Cancel this, unless a handler asks for it; return whether it was."""
        who = _who()
        if who is None or who is self._made_by or self.done():
            if self.obeying is not None:
                self.obeying()
            return super().cancel(msg)
        for told in _told:
            told(self.get_loop(), who)
        return False


def _who() -> Any:
    attempt = current_attempt.get()
    return _on_behalf.get() if attempt is None else attempt


def own_task(coroutine: Coroutine[Any, Any, T], *, name: str | None = None) -> OwnTask:
    """Start *coroutine* as an own task of the running loop."""
    return OwnTask(coroutine, loop=asyncio.get_running_loop(), name=name)


def _make(
    loop: asyncio.AbstractEventLoop,
    coroutine: Coroutine[Any, Any, Any] | Generator[Any, None, Any],
    **options: Any,
) -> asyncio.Future[Any]:
    return OwnTask(cast("Coroutine[Any, Any, Any]", coroutine), loop=loop, **options)


@contextmanager
def owning_tasks() -> Iterator[None]:
    """Have tasks that are started inside the block, by a group for example, be own ones.

    Await nothing inside.
    """
    loop = asyncio.get_running_loop()
    before = loop.get_task_factory()
    loop.set_task_factory(_make)
    try:
        yield
    finally:
        loop.set_task_factory(before)


@contextmanager
def on_behalf_of(who: T) -> Iterator[T]:
    """Cancel no own task inside the block.

    A task that is cancelled passes that on to what it awaits, and a handler may await any task.
    """
    token = _on_behalf.set(who)
    try:
        yield who
    finally:
        _on_behalf.reset(token)


@contextmanager
def telling(refused: Refused) -> Iterator[None]:
    """Call *refused* inside the block for each cancellation that is refused: with the loop, and for whom."""
    _told.append(refused)
    try:
        yield
    finally:
        _told.remove(refused)


def was_asked() -> bool:
    """Whether the end of this task was asked for, where a CancelledError comes up in it.

    If not, something that it awaited was cancelled: an error as any other.
    """
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0
