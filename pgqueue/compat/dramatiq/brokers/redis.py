"""`RedisBroker`: takes what Dramatiq's takes, and connects to no Redis."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pgqueue.compat.dramatiq.broker import Broker
from pgqueue.compat.dramatiq.middleware import Middleware


class RedisBroker(Broker):
    """A broker. *url* may be the DSN of a PostgreSQL database; else PGQUEUE_DSN names it: see Broker."""

    def __init__(
        self, *, url: str | None = None, middleware: Iterable[Middleware] | None = None, **_: Any
    ) -> None:
        super().__init__(url or "redis://localhost:6379", middleware)
