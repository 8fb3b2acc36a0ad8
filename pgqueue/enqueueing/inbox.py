"""Events from outside that are dealt with once."""

from __future__ import annotations

from pgqueue.model import checks


def check_event(source: object, event_id: object, ttl: object) -> tuple[str, str, float]:
    """Return the source and id of an external event, and for how many seconds to remember it.

    Raises InvalidOptionError.
    """
    return (
        checks.storable("mark_processed: the source", source),
        checks.storable("mark_processed: the event id", event_id),
        checks.positive_seconds("mark_processed: the ttl", ttl),
    )
