"""`RabbitmqBroker`: takes what Dramatiq's takes, and connects to no RabbitMQ."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pgqueue.compat import not_there
from pgqueue.compat.dramatiq.broker import Broker
from pgqueue.compat.dramatiq.middleware import Middleware


class RabbitmqBroker(Broker):
    """A broker. *url* may be the DSN of a PostgreSQL database; else PGQUEUE_DSN names it: see Broker."""

    def __init__(
        self,
        *,
        url: str | None = None,
        middleware: Iterable[Middleware] | None = None,
        confirm_delivery: bool = False,
        max_priority: int | None = None,
        **_: Any,
    ) -> None:
        # Delivery is always confirmed: a message is there once its transaction is committed.
        del confirm_delivery
        if max_priority is not None:
            raise not_there(
                "RabbitmqBroker(max_priority=)", "pass priority= to actors: lower numbers come first"
            )
        super().__init__(url or "amqp://localhost:5672", middleware)
