"""Which broker, and which message, is meant where none is named."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, Final

processed: Final[ContextVar[tuple[Any, Any] | None]] = ContextVar("pgqueue_dramatiq", default=None)
"""The message that an actor is processing, and its broker."""


class Brokers:
    """The broker of the process."""

    def __init__(self) -> None:
        self.make: Callable[[], Any] | None = None
        self._chosen: Any = None

    @property
    def chosen(self) -> Any:
        """The broker that was set, or else one for PGQUEUE_DSN."""
        if self._chosen is None and self.make is not None:
            self._chosen = self.make()
        return self._chosen

    @chosen.setter
    def chosen(self, broker: Any) -> None:
        self._chosen = broker


brokers: Final = Brokers()
