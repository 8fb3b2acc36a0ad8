"""`StubBroker`: a broker for tests, whose messages are in the database that PGQUEUE_DSN names."""

from __future__ import annotations

from collections.abc import Iterable

from pgqueue.compat.dramatiq.broker import Broker
from pgqueue.compat.dramatiq.middleware import Middleware


class StubBroker(Broker):
    """A broker whose database PGQUEUE_DSN names: see Broker. `pgqueue.testing` has databases for tests."""

    def __init__(self, middleware: Iterable[Middleware] | None = None) -> None:
        super().__init__(None, middleware)
