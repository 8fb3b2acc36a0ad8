"""Who hears of events, and how they are told."""

from __future__ import annotations

from collections.abc import Callable

from pgqueue.events.kinds import KINDS, Event, logger

Observer = Callable[[Event], None]


class Observers:
    """Everybody who hears of events."""

    def __init__(self) -> None:
        self._observers: dict[type[Event], list[Observer]] = {}
        self._listening: dict[type[Event], list[tuple[Observer, Callable[[], bool]]]] = {}
        """Those that hear of a kind at times only, and what says whether it is such a time."""

    def add(
        self, observer: Observer, *kinds: type[Event], is_listening: Callable[[], bool] | None = None
    ) -> None:
        """Call *observer* with every event from now on, or with those of *kinds* alone.

        *is_listening*: asked each time whether it wants to hear; None: always.
        """
        for kind in kinds or KINDS:
            if is_listening is None:
                self._observers.setdefault(kind, []).append(observer)
            else:
                self._listening.setdefault(kind, []).append((observer, is_listening))

    def want(self, kind: type[Event]) -> bool:
        """Whether somebody hears of events of this kind: if not, none need be made."""
        return kind in self._observers or any(
            is_listening() for _, is_listening in self._listening.get(kind, ())
        )

    def emit(self, event: Event) -> None:
        """Tell everybody. An observer that fails is logged and does not disturb the others."""
        kind = type(event)
        for observer in self._observers.get(kind, ()):
            _tell(observer, event)
        for observer, is_listening in self._listening.get(kind, ()):
            if is_listening():
                _tell(observer, event)


def _tell(observer: Observer, event: Event) -> None:
    try:
        observer(event)
    except Exception:
        logger.exception("observer %r failed at %s", observer, type(event).__name__)
