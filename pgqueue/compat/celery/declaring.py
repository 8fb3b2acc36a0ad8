"""From Celery's tasks to tasks of a PgQueue."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any, Final

import anyio.to_thread

from pgqueue import DeadLetter, JobStatus, Middleware, PgQueue, Rate
from pgqueue.compat.addresses import is_child
from pgqueue.compat.celery import signals
from pgqueue.compat.celery.errors import IGNORED
from pgqueue.compat.celery.exceptions import SAID, ImproperlyConfigured, TimeLimitExceeded, WorkerLostError
from pgqueue.compat.celery.running import LEFT_OUT, ExceptionInfo, begin_process, fail, run_job
from pgqueue.compat.celery.sending import expiry, queue_name
from pgqueue.compat.celery.wire import unpack
from pgqueue.events import Ended, JobInfo, Outcome, Retried

_PERIODS: Final = {"s": 1.0, "m": 60.0, "h": 3600.0}
_KILLED: Final = {
    "hard_timeout": TimeLimitExceeded,
    "worker_lost": WorkerLostError,
    "process_died": WorkerLostError,
}
"""Why an attempt ends without a word of the task's own."""


def declare(app: Any, pgq: PgQueue, task: Any) -> Any:
    """Declare *task* on *pgq*; return it as a task of that."""
    conf = app.conf
    options: dict[str, Any] = {
        "queue": queue_name(task.queue or conf.task_default_queue),
        "timeout": task.hard_limit,
        "soft_timeout": task.soft_limit,
        "retry_on_timeout": False,
        "max_retries": task.max_retries,
        "default_retry_delay": task.default_retry_delay,
        "autoretry_for": (),
        "throws": tuple(task.throws or ()),
        "acks_late": task.is_acked_late,
        "ignore_result": task.ignores_result,
    }
    priority = conf.task_default_priority if task.priority is None else task.priority
    if priority is not None:
        options["priority"] = priority
    if task.expires is not None:
        options["expires"] = expiry(app, task.expires)
    rate = rate_of(task.name, conf.task_default_rate_limit if task.rate_limit is None else task.rate_limit)
    limits = [] if rate is None else [pgq.limit(f"rate of {task.name}", rate=rate)]
    isolation: Any = "process" if task.is_isolated else None
    return pgq.task(name=task.name, isolation=isolation, limits=limits, **options)(handler_of(task))


def handler_of(task: Any) -> Callable[..., Any]:
    """Return the handler of *task*: a function with its parameters, whose values are plain JSON."""

    def handler(*args: Any, **kwargs: Any) -> Any:
        return run_job(task, args, kwargs)

    function = task.function
    handler.__name__ = function.__name__
    handler.__qualname__ = function.__qualname__
    handler.__module__ = task.module
    handler.__doc__ = function.__doc__
    handler.__signature__ = _without_defaults(task.parameters)  # type: ignore[attr-defined]
    handler.__annotations__ = {}
    return handler


def _without_defaults(parameters: inspect.Signature) -> inspect.Signature:
    """Return *parameters* whose defaults say that an argument was left out: the function has its own."""
    return parameters.replace(
        parameters=[
            each if each.default is each.empty else each.replace(default=LEFT_OUT)
            for each in parameters.parameters.values()
        ]
    )


def rate_of(name: str, given: Any) -> Rate | None:
    """Return the rate of `rate_limit`: a number per second, or `10/s`, `100/m`, `1000/h`; None: none."""
    if given is None or given == 0:
        return None
    if isinstance(given, int | float):
        return Rate(given)
    count, _, period = str(given).partition("/")
    try:
        return Rate(float(count), per=timedelta(seconds=_PERIODS[period or "s"]))
    except (KeyError, ValueError):
        raise ImproperlyConfigured(
            f"task {name}: rate_limit must be a number, or like '10/s', '100/m' or '1000/h', got {given!r}"
        ) from None


class Ends(Middleware):
    """Has jobs end as tasks of Celery's do, and tells of workers."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def finish(self, job: JobInfo, outcome: Outcome) -> Outcome:
        """Cancel what the task ignores; do not run again what has killed its process, if it is not to."""
        if isinstance(outcome, Ended) and outcome.reason == "rejected":
            if outcome.error is not None and outcome.error.message == SAID:
                return Ended(outcome.job_id, JobStatus.CANCELLED, IGNORED, None)
        elif isinstance(outcome, Retried) and outcome.reason == "process_died":
            task = self._app.tasks.get(job.task)
            if task is not None and not (task.is_acked_late and task.returns_when_lost):
                return Ended(outcome.job_id, JobStatus.FAILED, "process_died", outcome.error)
            return replace(outcome, delay=0.0)
        return outcome

    async def boot(self, worker: str) -> None:
        """Send the signals of a worker that starts."""
        begin_process()
        # Child processes begin and end like workers, and are none.
        for signal in () if is_child() else (signals.worker_init, signals.worker_ready):
            await anyio.to_thread.run_sync(partial(signal.send, sender=worker))

    async def shutdown(self, worker: str) -> None:
        """Send the signal of a worker that has stopped."""
        if is_child():
            return
        await anyio.to_thread.run_sync(partial(signals.worker_shutdown.send, sender=worker))


def tell_of_death(app: Any, letter: DeadLetter) -> None:
    """Call `on_failure` of a task that could not: its process was killed, or it ran past its limit."""
    task, kind = app.tasks.get(letter.task), _KILLED.get(letter.reason)
    if task is not None and kind is not None:
        error = kind(letter.message or letter.reason)
        arguments = app.client.get(letter.job_id).arguments
        named = unpack(arguments) if isinstance(arguments, dict) else {}
        fail(task, str(letter.job_id), error, (), named, ExceptionInfo(error, str(error)))
