"""The observers of a process, and how events reach them."""

from __future__ import annotations

import logging
from collections.abc import Callable

from pgqueue.events.kinds import KINDS, Event

logger = logging.getLogger("pgqueue.events")

Observer = Callable[[Event], None]


class Observers:
    """All observers of a process."""

    def __init__(self) -> None:
        self._observers: dict[type[Event], list[Observer]] = {}
        self._listening: dict[type[Event], list[tuple[Observer, Callable[[], bool]]]] = {}
        """Observers that hear of a kind only while a function returns True."""

    def add(
        self, observer: Observer, *kinds: type[Event], is_listening: Callable[[], bool] | None = None
    ) -> None:
        """Call *observer* with every event from now on, or with those of *kinds* alone.

        *is_listening* is asked before each event; None: the observer hears all of them.
        """
        for kind in kinds or KINDS:
            if is_listening is None:
                self._observers.setdefault(kind, []).append(observer)
            else:
                self._listening.setdefault(kind, []).append((observer, is_listening))

    def want(self, kind: type[Event]) -> bool:
        """Whether any observer hears of events of this kind. If not, do not make one."""
        if kind in self._observers:
            return True
        at_times = self._listening.get(kind)
        return at_times is not None and any(is_listening() for _, is_listening in at_times)

    def emit(self, event: Event) -> None:
        """Tell all observers. If one raises an error, it is logged, and the others are told all the same."""
        kind = type(event)
        for observer in self._observers.get(kind, ()):
            _tell(observer, event)
        for observer, is_listening in self._listening.get(kind, ()):
            if is_listening():
                _tell(observer, event)


def _tell(observer: Observer, event: Event) -> None:
    try:
        observer(event)
    except BaseException:
        # BaseException: an observer that exits would end the worker's loop, and not the program.
        logger.exception("observer %r raised an error at %s; ignoring it", observer, type(event).__name__)
