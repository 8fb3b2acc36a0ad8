"""A signal that comes while a worker is stopping ends its grace, also inside a program with own handlers.

The first Ctrl-C is the program's: it leaves the block of its worker, which then waits for its jobs. Nobody
hears a second one: `asyncio.run` has cancelled what it cancels, and a web server waits for its lifespan. So
for that time, and no longer, the worker hears it first, and passes it on.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, Final

HEARD: Final = (signal.SIGINT, signal.SIGTERM)
_stopping: Final[dict[object, tuple[asyncio.AbstractEventLoop, Callable[[], object]]]] = {}
"""The workers of this process that are stopping: their loops, and what ends their grace."""
_before: Final[dict[int, Callable[[int, FrameType | None], Any]]] = {}
"""The handlers of the program, by signal, while this module's are in their place."""


_heard: Final[list[int]] = []
"""The signals that have come while a worker was stopping. The next worker that stops is hurried, too."""


def forget_signals() -> None:
    """Take what was heard for over: the program goes on, and starts a worker."""
    _heard.clear()


@contextmanager
def hurried_by_signals(release: Callable[[], object]) -> Iterator[None]:
    """Call *release* on this loop at each SIGINT or SIGTERM inside the block, if the program handles them.

    What the program does at a signal, it does as well. Only the main thread can hear.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    key = object()
    _stopping[key] = asyncio.get_running_loop(), release
    if len(_stopping) == 1:
        _take_over()
    if _heard:
        release()
    try:
        yield
    finally:
        del _stopping[key]
        if not _stopping:
            _give_back()


def _take_over() -> None:
    for each in HEARD:
        handler = signal.getsignal(each)
        # Where the system decides, the process ends at once, as the program would have it.
        if callable(handler):
            _before[each] = handler
            signal.signal(each, _hear)


def _give_back() -> None:
    for each, handler in _before.items():
        # The program may have set another one meanwhile.
        if signal.getsignal(each) is _hear:
            signal.signal(each, handler)
    _before.clear()


def _hear(number: int, frame: FrameType | None) -> None:
    _heard.append(number)
    for loop, release in list(_stopping.values()):
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(release)
    handler = _before.get(number)
    if handler is None:
        return
    try:
        handler(number, frame)
    except KeyboardInterrupt:
        # `asyncio.run` would cancel the handlers of all jobs now, before they are returned. It has cancelled
        # its program at the first one already, and raises this at its end. The next Ctrl-C is let through.
        if len(_heard) > 1 or not _is_of_runner(handler):
            raise


def _is_of_runner(handler: object) -> bool:
    return isinstance(getattr(getattr(handler, "func", None), "__self__", None), asyncio.Runner)
