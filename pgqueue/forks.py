"""What a child that is forked from this process must not take over from it.

A fork copies what belongs to one process alone. A child would write the signals that it gets into the event
loop of its parent, which then stops. It would ignore its own SIGTERM. And it would hold the parent's
connections open, with their transactions and locks, after the parent is gone. So a child gives these up
before it runs anything else.

Nothing is registered on import: `prepare` is called where a worker, or its handling of signals, starts. A
program that is executed anew (`spawn`, `forkserver`, `subprocess`) takes over none of this anyway.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, Final, Protocol
from weakref import WeakSet

LOOPS: Final = frozenset({"asyncio", "uvloop", "anyio", "uvicorn", "hypercorn", "pgqueue"})
"""The packages whose handlers of signals act on an event loop, which a child does not run."""
_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class _HasDescriptor(Protocol):
    def fileno(self) -> int: ...


_sockets: WeakSet[_HasDescriptor] = WeakSet()
_in_child: list[Callable[[], object]] = []
_masks: dict[int, set[Any]] = {}
"""The signals that each thread which is forking had blocked before, by the thread."""


def close_in_children(opened: _HasDescriptor) -> None:
    """Close what *opened* refers to in each child that is forked from now on, while *opened* is in use."""
    _sockets.add(opened)


def heed_not(_signal: int, _frame: object) -> None:
    """Do nothing, as a handler of signals. Unlike `SIG_IGN`, other programs do not inherit it."""


def prepare() -> None:
    """Have each child that is forked from this process give up what is not its own."""
    call_in_children(_take_no_signals, _close_sockets)


def call_in_children(*functions: Callable[[], object]) -> None:
    """Call *functions*, each once, in each child that is forked from this process."""
    if not _in_child:
        # Hooks cannot be removed, so there is one for all.
        os.register_at_fork(before=_block, after_in_parent=_unblock, after_in_child=_begin)
    _in_child.extend(function for function in functions if function not in _in_child)


def _block() -> None:
    # A signal for a child that still has its parent's handlers would reach the parent.
    _masks[threading.get_ident()] = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)


def _unblock() -> None:
    mask = _masks.pop(threading.get_ident(), None)
    if mask is not None:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _begin() -> None:
    for function in _in_child:
        function()
    _unblock()


def _take_no_signals() -> None:
    signal.set_wakeup_fd(-1)
    for each in _SIGNALS:
        if _is_of_a_loop(signal.getsignal(each)):
            signal.signal(each, signal.default_int_handler if each is signal.SIGINT else signal.SIG_DFL)


def _is_of_a_loop(handler: object) -> bool:
    function = handler.func if isinstance(handler, partial) else handler
    # Those that the program made itself are the program's to decide about.
    return callable(function) and str(getattr(function, "__module__", "")).partition(".")[0] in LOOPS


def _close_sockets() -> None:
    empty = os.open(os.devnull, os.O_RDWR)
    try:
        for opened in list(_sockets):
            with suppress(OSError):
                descriptor = opened.fileno()
                if descriptor >= 0:
                    # Replaced rather than closed: the object in this process closes its number later, which
                    # may be another's by then.
                    os.dup2(empty, descriptor, inheritable=False)
    finally:
        os.close(empty)


def how_ended(code: int) -> str:
    """Return how a process ended, for the log. *code* is as in subprocess: negative for a signal."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"signal {signal.Signals(-code).name}"
    except ValueError:
        # A real-time signal has no name.
        return f"signal {-code}"
