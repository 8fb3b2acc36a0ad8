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
from pgqueue.compat.dramatiq.encoder import JSONEncoder, PickleEncoder, get_encoder, set_encoder
from pgqueue.compat.dramatiq.errors import (
    ActorNotFound,
    BrokerConnectionError,
    ConnectionClosed,
    ConnectionFailed,
    DecodeError,
    DramatiqError,
    QueueJoinTimeout,
    QueueNotFound,
    RateLimitExceeded,
    Retry,
)
from pgqueue.compat.dramatiq.generic import GenericActor
from pgqueue.compat.dramatiq.logs import get_logger
from pgqueue.compat.dramatiq.message import Message, group, pipeline
from pgqueue.compat.dramatiq.middleware import Middleware
from pgqueue.compat.dramatiq.worker import Worker

__all__ = [
    "Actor",
    "ActorNotFound",
    "Broker",
    "BrokerConnectionError",
    "ConnectionClosed",
    "ConnectionFailed",
    "DecodeError",
    "DramatiqError",
    "GenericActor",
    "JSONEncoder",
    "Message",
    "Middleware",
    "PickleEncoder",
    "QueueJoinTimeout",
    "QueueNotFound",
    "RabbitmqBroker",
    "RateLimitExceeded",
    "RedisBroker",
    "Retry",
    "StubBroker",
    "Worker",
    "actor",
    "get_broker",
    "get_encoder",
    "get_logger",
    "group",
    "pipeline",
    "set_broker",
    "set_encoder",
]
