"""Ending what is held open for clients, long polls and event streams, when their server stops."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import anyio

LOOK_INTERVAL: Final = 0.25
"""Seconds between two checks of the server, while something is held open."""


class ServerStop:
    """Ends what one app holds open when the server stops.

    Either the program announces it, or a uvicorn that handles this process's signals is seen to stop: it
    waits for requests in progress, and does not tell them.
    """

    def __init__(self) -> None:
        self._is_announced = False
        self._scopes: set[anyio.CancelScope] = set()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_under_way(self) -> bool:
        """Whether the server is stopping."""
        return self._is_announced or uvicorn_stops()

    def announce(self) -> None:
        """End everything, for good."""
        self._is_announced = True
        self._cancel_all()

    @contextmanager
    def cancels(self, scope: anyio.CancelScope) -> Iterator[None]:
        """Cancel *scope* when the server stops, inside the block."""
        self._scopes.add(scope)
        if self._timer is None:
            self._check()
        try:
            yield
        finally:
            self._scopes.discard(scope)
            if not self._scopes and self._timer is not None:
                self._timer.cancel()
                self._timer = None

    def _check(self) -> None:
        if self.is_under_way:
            self._cancel_all()
        # Even after the stop: a client with an open connection may send another request.
        self._timer = asyncio.get_running_loop().call_later(LOOK_INTERVAL, self._check)

    def _cancel_all(self) -> None:
        for scope in self._scopes:
            scope.cancel()


def uvicorn_stops() -> bool:
    """Whether a uvicorn that handles this process's SIGTERM is about to stop."""
    server = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    return getattr(server, "should_exit", None) is True
