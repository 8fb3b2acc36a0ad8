"""Dramatiq's interface over a PgQueue: change the imports to `pgqueue.compat.dramatiq`.

    from pgqueue.compat import dramatiq
    from pgqueue.compat.dramatiq.brokers.redis import RedisBroker

    dramatiq.set_broker(RedisBroker())

    @dramatiq.actor
    def send_email(to: str, subject: str, body: str) -> None: ...

`pgqueue worker module` runs the actors. docs/how-to/from-dramatiq.md says what becomes of what.
"""

from pgqueue.compat.dramatiq.actor import Actor, actor
from pgqueue.compat.dramatiq.broker import Broker, get_broker, set_broker
from pgqueue.compat.dramatiq.brokers.rabbitmq import RabbitmqBroker
from pgqueue.compat.dramatiq.brokers.redis import RedisBroker
from pgqueue.compat.dramatiq.brokers.stub import StubBroker
from pgqueue.compat.dramatiq.errors import (
    ActorNotFound,
    DramatiqError,
    QueueJoinTimeout,
    RateLimitExceeded,
    Retry,
)
from pgqueue.compat.dramatiq.generic import GenericActor
from pgqueue.compat.dramatiq.message import Message, group, pipeline
from pgqueue.compat.dramatiq.middleware import Middleware
from pgqueue.compat.dramatiq.worker import Worker

__all__ = [
    "Actor",
    "ActorNotFound",
    "Broker",
    "DramatiqError",
    "GenericActor",
    "Message",
    "Middleware",
    "QueueJoinTimeout",
    "RabbitmqBroker",
    "RateLimitExceeded",
    "RedisBroker",
    "Retry",
    "StubBroker",
    "Worker",
    "actor",
    "get_broker",
    "group",
    "pipeline",
    "set_broker",
]
