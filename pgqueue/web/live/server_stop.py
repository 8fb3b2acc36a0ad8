"""The end of what is held open for clients, long polls and event streams: their server stops."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import anyio

LOOK_INTERVAL: Final = 0.25
"""Seconds between two looks at the server, while something is held open."""


class Ending:
    """Tells those who are held open, of one app, that the server stops.

    Somebody says so, or a uvicorn that handles the signals of this process is seen to stop: it waits for
    requests under way, and tells them nothing.
    """

    def __init__(self) -> None:
        self._is_said = False
        self._scopes: set[anyio.CancelScope] = set()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def has_come(self) -> bool:
        """Whether the server stops."""
        return self._is_said or uvicorn_stops()

    def say(self) -> None:
        """Have it come, for good."""
        self._is_said = True
        self._cancel_all()

    @contextmanager
    def cancels(self, scope: anyio.CancelScope) -> Iterator[None]:
        """Cancel *scope* when it comes, inside the block."""
        self._scopes.add(scope)
        if self._timer is None:
            self._look()
        try:
            yield
        finally:
            self._scopes.discard(scope)
            if not self._scopes and self._timer is not None:
                self._timer.cancel()
                self._timer = None

    def _look(self) -> None:
        if self.has_come:
            self._cancel_all()
        # Also then: others may come, who hold on to a connection that they have.
        self._timer = asyncio.get_running_loop().call_later(LOOK_INTERVAL, self._look)

    def _cancel_all(self) -> None:
        for scope in self._scopes:
            scope.cancel()


def uvicorn_stops() -> bool:
    """Whether a uvicorn that handles this process's SIGTERM is about to stop."""
    server = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    return getattr(server, "should_exit", None) is True
