"""Middleware: what a broker's own set, as options, and what yours do around messages."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any, Final

from pgqueue.compat import not_there
from pgqueue.compat.dramatiq import state
from pgqueue.compat.dramatiq.errors import SkipMessage, TimeLimitExceeded

logger = logging.getLogger("pgqueue.compat.dramatiq")

ABSENT: Final = {
    "before_ack": "use after_process_message, or the middleware of pgqueue, which has `finish`",
    "after_ack": "use after_process_message, or the middleware of pgqueue, which has `finish`",
    "before_nack": "use pgq.on_dead, which is called for each job that has failed for good",
    "after_nack": "use pgq.on_dead, which is called for each job that has failed for good",
    "before_delay_message": "a delayed message waits in the database, and no worker holds it",
    "before_declare_queue": "declare it by pgq.queue(name, ...)",
    "after_declare_queue": "declare it by pgq.queue(name, ...)",
    "after_declare_delay_queue": "a delayed message waits in its own queue",
    "after_consumer_thread_boot": "use before_worker_boot: a worker has no thread for a queue",
    "before_consumer_thread_shutdown": "use after_worker_shutdown: a worker has no thread for a queue",
    "after_worker_thread_boot": "use before_worker_boot, or pgq.lifespan",
    "before_worker_thread_shutdown": "use after_worker_shutdown, or pgq.lifespan",
    "after_process_stop": "use after_worker_shutdown",
    "forks": "run a program of its own beside the worker",
}
"""Hooks of Dramatiq that have no counterpart, and what to do instead."""


class Middleware:
    """Does something around messages. Override what you need; `broker.add_middleware` adds it.

    Hooks around an actor run where it does: in its thread, or in the event loop if it is async.
    """

    @property
    def actor_options(self) -> set[str]:
        """The options of actors that it knows."""
        return set()

    def before_declare_actor(self, broker: Any, actor: Any) -> None:
        """Called before an actor is declared."""

    def after_declare_actor(self, broker: Any, actor: Any) -> None:
        """Called after an actor was declared."""

    def before_enqueue(self, broker: Any, message: Any, delay: int | None) -> None:
        """Called before a message is enqueued."""

    def after_enqueue(self, broker: Any, message: Any, delay: int | None) -> None:
        """Called after a message was enqueued."""

    def before_process_message(self, broker: Any, message: Any) -> None:
        """Called before an actor runs. SkipMessage skips it."""

    def after_process_message(
        self, broker: Any, message: Any, *, result: Any = None, exception: BaseException | None = None
    ) -> None:
        """Called after an actor has run, with its result or its exception."""

    def after_skip_message(self, broker: Any, message: Any) -> None:
        """Called if an actor was skipped."""

    def after_process_boot(self, broker: Any) -> None:
        """Called before the first worker of a process starts."""

    def before_worker_boot(self, broker: Any, worker: Any) -> None:
        """Called before a worker starts. *worker*: its name."""

    def after_worker_boot(self, broker: Any, worker: Any) -> None:
        """Called before a worker claims its first job."""

    def before_worker_shutdown(self, broker: Any, worker: Any) -> None:
        """Called after the last attempt of a worker."""

    def after_worker_shutdown(self, broker: Any, worker: Any) -> None:
        """Called after a worker has stopped."""


def emit(middleware: Iterable[Middleware], hook: str, *arguments: Any, **told: Any) -> None:
    """Call a hook of each middleware. Errors are logged, as in Dramatiq, apart from SkipMessage."""
    for each in middleware:
        try:
            getattr(each, hook)(*arguments, **told)
        except SkipMessage:
            raise
        except Exception:
            logger.exception("middleware %r raised an error in %s; ignoring it", each, hook)


def check(middleware: object) -> Middleware:
    """Return *middleware*. Raises TypeError, and NotImplementedError for a hook that is not there."""
    if not isinstance(middleware, Middleware):
        raise TypeError(
            f"a middleware must be one of pgqueue.compat.dramatiq, got {middleware!r}: change its import"
        )
    for name, way in ABSENT.items():
        if hasattr(type(middleware), name):
            raise not_there(f"the hook {name} of {type(middleware).__name__}", way)
    return middleware


class Retries(Middleware):
    """How often messages are retried, and when, in milliseconds, unless their actor says otherwise."""

    def __init__(
        self,
        *,
        max_retries: int | None = 20,
        min_backoff: int = 15_000,
        max_backoff: int = 7 * 86_400_000,
        retry_when: Callable[[int, BaseException], bool] | None = None,
    ) -> None:
        self.defaults: dict[str, Any] = {
            "max_retries": max_retries, "min_backoff": min_backoff, "max_backoff": max_backoff
        }  # fmt: skip
        self.defaults |= {} if retry_when is None else {"retry_when": retry_when}
        self.max_retries, self.min_backoff, self.max_backoff = max_retries, min_backoff, max_backoff
        self.retry_when = retry_when

    @property
    def actor_options(self) -> set[str]:
        """The options of actors that it knows."""
        return {"max_retries", "min_backoff", "max_backoff", "retry_when", "throws", "on_retry_exhausted"}


class TimeLimit(Middleware):
    """How long an actor may run, in milliseconds, unless it says otherwise."""

    def __init__(self, *, time_limit: float = 600_000, interval: int = 1000) -> None:
        del interval
        self.defaults = {"time_limit": time_limit}
        self.time_limit = time_limit

    @property
    def actor_options(self) -> set[str]:
        """The options of actors that it knows."""
        return {"time_limit"}


class AgeLimit(Middleware):
    """How old a message may get before it is processed, in milliseconds, unless its actor says otherwise."""

    def __init__(self, *, max_age: int | None = None) -> None:
        self.defaults = {} if max_age is None else {"max_age": max_age}
        self.max_age = max_age

    @property
    def actor_options(self) -> set[str]:
        """The options of actors that it knows."""
        return {"max_age"}


class Callbacks(Middleware):
    """Sends a message after each success, or each failure, of an actor that asks for it."""

    @property
    def actor_options(self) -> set[str]:
        """The options of actors that it knows."""
        return {"on_success", "on_failure"}


class Pipelines(Middleware):
    """Hands results over in pipelines: always, here."""

    @property
    def actor_options(self) -> set[str]:
        """The options of actors that it knows."""
        return {"pipe_ignore", "pipe_target"}


class GroupCallbacks(Middleware):
    """Sends the completion callbacks of groups: always, here."""

    def __init__(self, rate_limiter_backend: object = None, *, barrier_ttl: int | None = None) -> None:
        del rate_limiter_backend, barrier_ttl


class CurrentMessage(Middleware):
    """Tells which message is processed: always, here."""

    @classmethod
    def get_current_message(cls) -> Any:
        """Return the message that is being processed here, or None."""
        return None if (found := state.processed.get()) is None else found[0]


class AsyncIO(Middleware):
    """Lets actors be async functions: always, here."""


class ShutdownNotifications(Middleware):
    """Not there: a job that a stopping worker cannot finish returns to its queue."""

    def __init__(self, notify_shutdown: bool = False) -> None:
        if notify_shutdown:
            raise not_there(
                "ShutdownNotifications(notify_shutdown=True)",
                "read pgqueue.current_job().is_stopped; an async actor gets a CancelledError",
            )

    @property
    def actor_options(self) -> set[str]:
        """The options of actors that it knows."""
        return {"notify_shutdown"}


class Prometheus(Middleware):
    """Not there: the worker publishes metrics itself."""

    def __init__(self, *_: object, **__: object) -> None:
        raise not_there("the middleware Prometheus", "start `pgqueue worker --metrics-port 9191`")


def default_middleware() -> list[Middleware]:
    """Return what a broker has if it is given none."""
    kinds = (AgeLimit, TimeLimit, ShutdownNotifications, Callbacks, Pipelines, Retries, CurrentMessage)
    return [each() for each in kinds]


__all__ = [
    "AgeLimit",
    "AsyncIO",
    "Callbacks",
    "CurrentMessage",
    "GroupCallbacks",
    "Middleware",
    "Pipelines",
    "Prometheus",
    "Retries",
    "ShutdownNotifications",
    "SkipMessage",
    "TimeLimit",
    "TimeLimitExceeded",
    "default_middleware",
]
