"""Pausing all workers, which RQ has: here queues are paused."""

from __future__ import annotations

from typing import NoReturn

from pgqueue.compat import not_there


def suspend(*_: object, **__: object) -> NoReturn:
    """Raise NotImplementedError."""
    raise not_there(
        "suspend", "pause queues: `pgqueue queues pause QUEUE`, or connection.blocking.pause(...)"
    )


def resume(*_: object, **__: object) -> NoReturn:
    """Raise NotImplementedError."""
    raise not_there(
        "resume", "resume queues: `pgqueue queues resume QUEUE`, or connection.blocking.resume(...)"
    )


def is_suspended(*_: object, **__: object) -> NoReturn:
    """Raise NotImplementedError."""
    raise not_there("is_suspended", "run `pgqueue queues`, which says what is paused")
