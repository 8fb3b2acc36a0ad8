"""`@job`: functions that enqueue calls of themselves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from pgqueue.compat.rq.connections import Redis
from pgqueue.compat.rq.job import Job
from pgqueue.compat.rq.queue import Queue

F = TypeVar("F", bound=Callable[..., Any])


class job:  # noqa: N801  # RQ's name
    """Give a function `delay` and `enqueue`, which enqueue a call of it in *queue*, with these options."""

    def __init__(
        self,
        queue: Queue | str,
        connection: Redis | None = None,
        timeout: float | str | None = None,
        **options: Any,
    ) -> None:
        self.queue = Queue(queue, connection) if isinstance(queue, str) else queue
        self.options = {"timeout": timeout, **options}

    def __call__(self, function: F) -> F:
        """Return *function* with these methods."""

        def enqueue(*args: Any, **kwargs: Any) -> Job:
            own: dict[str, Any] = {
                name: kwargs.pop(name) for name in ("depends_on", "job_id", "at_front") if name in kwargs
            }
            return self.queue.enqueue_call(function, args, kwargs, **{**self.options, **own})

        function.enqueue = function.delay = enqueue  # type: ignore[attr-defined]  # what RQ does
        return function
