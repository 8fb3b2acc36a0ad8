"""Actors: functions that are sent messages."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final, overload

from pgqueue import PgQueue
from pgqueue.compat.dramatiq.broker import Broker, get_broker
from pgqueue.compat.dramatiq.logs import get_logger
from pgqueue.compat.dramatiq.message import Message

QUEUE_NAME: Final = re.compile(r"[a-zA-Z_][a-zA-Z0-9._-]*")


class Actor:
    """A function that is called, or sent a message: then a worker calls it."""

    def __init__(
        self,
        fn: Callable[..., Any],
        *,
        broker: Broker,
        actor_name: str,
        queue_name: str,
        priority: int,
        options: dict[str, Any],
    ) -> None:
        if actor_name in broker.actors:
            raise ValueError(f"An actor named {actor_name!r} is already registered.")
        self.fn = fn
        self.broker = broker
        self.actor_name = actor_name
        self.queue_name = queue_name
        self.priority = priority
        self.options = options
        self.task: Any = None
        """The task of pgqueue that it is."""
        self.logger = get_logger(fn.__module__, actor_name)
        broker.declare_actor(self)

    def __pgqueue__(self) -> PgQueue:
        """Return what `pgqueue worker` runs."""
        return self.broker.pgqueue

    def message(self, *args: Any, **kwargs: Any) -> Message:
        """Return a message, to be composed with others."""
        return self.message_with_options(args=args, kwargs=kwargs)

    def message_with_options(
        self, *, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None, **options: Any
    ) -> Message:
        """Return a message with options, to be composed with others."""
        for name in ("on_failure", "on_success"):
            callback = options.get(name)
            if isinstance(callback, Actor):
                options[name] = callback.actor_name
            elif not isinstance(callback, str | None):
                raise TypeError(f"{name} value must be an Actor")
        return Message(self.queue_name, self.actor_name, args, kwargs or {}, options)

    def send(self, *args: Any, **kwargs: Any) -> Message:
        """Enqueue a message with these arguments."""
        return self.send_with_options(args=args, kwargs=kwargs)

    def send_with_options(
        self,
        *,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
        delay: float | timedelta | None = None,
        **options: Any,
    ) -> Message:
        """Enqueue a message with options. *delay*: the milliseconds until it is processed, or a timedelta."""
        if isinstance(delay, timedelta):
            delay = delay.total_seconds() * 1000
        message = self.message_with_options(args=args, kwargs=kwargs, **options)
        return self.broker.enqueue(message, delay=None if delay is None else int(delay))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function here."""
        return self.fn(*args, **kwargs)

    def __repr__(self) -> str:
        return f"Actor({self.fn!r}, queue_name={self.queue_name!r}, actor_name={self.actor_name!r})"

    def __str__(self) -> str:
        return f"Actor({self.actor_name})"


@overload
def actor(fn: Callable[..., Any]) -> Actor: ...
@overload
def actor(
    fn: None = None,
    *,
    actor_class: Callable[..., Actor] = Actor,
    actor_name: str | None = None,
    queue_name: str = "default",
    priority: int = 0,
    broker: Broker | None = None,
    **options: Any,
) -> Callable[[Callable[..., Any]], Actor]: ...
def actor(
    fn: Callable[..., Any] | None = None,
    *,
    actor_class: Callable[..., Actor] = Actor,
    actor_name: str | None = None,
    queue_name: str = "default",
    priority: int = 0,
    broker: Broker | None = None,
    **options: Any,
) -> Any:
    """Declare a function as an actor.

    *options*: those of Dramatiq's middleware, times in milliseconds: max_retries (by default 20),
    min_backoff, max_backoff, retry_when, throws, on_retry_exhausted, time_limit (10 minutes), max_age,
    on_success, on_failure, pipe_ignore, store_results. Raises ValueError for others, and what
    `PgQueue.task` raises.
    """

    def declare(function: Callable[..., Any]) -> Actor:
        if not QUEUE_NAME.fullmatch(queue_name):
            raise ValueError(
                f"Queue names must start with a letter or an underscore, followed by letters, digits, dots, "
                f"dashes or underscores, got {queue_name!r}"
            )
        chosen = broker or get_broker()
        if undefined := sorted(options.keys() - chosen.actor_options):
            raise ValueError(
                f"The following actor options are undefined: {', '.join(undefined)}. Add the middleware that "
                "has them to your broker"
            )
        return actor_class(
            function,
            broker=chosen,
            actor_name=actor_name or function.__name__,
            queue_name=queue_name,
            priority=priority,
            options=dict(options),
        )

    return declare if fn is None else declare(fn)
