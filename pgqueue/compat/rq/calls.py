"""A call as RQ's users write it, and the call of pgqueue that it becomes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from pgqueue import PgQueue, Signature
from pgqueue.compat import not_there
from pgqueue.compat.rq.connections import KILL_AFTER, Redis
from pgqueue.compat.rq.exceptions import NoSuchJobError
from pgqueue.compat.rq.finding import find
from pgqueue.compat.rq.headers import ON_FAILURE, ON_SUCCESS, path_of, read_callback, read_headers
from pgqueue.compat.rq.job import Dependency, Job
from pgqueue.compat.rq.retry import Retry
from pgqueue.compat.rq.times import seconds_of

Function = str | Callable[..., Any]

ABSENT: Final[Mapping[str, str]] = {
    "repeat": "create a schedule: queue.connection.pgqueue.schedules, or pgq.schedules.create(...)",
    "on_stopped": "a cancelled job gets a CancelledError, or `ctx.is_stopped`; pgq.observe sees it",
    "webhooks": "make one by pgq.webhook(name, url=...), and declare a task with webhooks=[...]",
    "rate_limit": "declare it for the task: pgq.limit(name, rate=...)",
    "pipeline": "pass connection= to PgQueue.enqueue, to enqueue in a transaction of yours",
}
"""What `enqueue` takes in RQ and not here, and what to do instead."""
OPTIONS: Final = frozenset(
    {
        "job_timeout", "result_ttl", "ttl", "failure_ttl", "description", "depends_on", "job_id", "at_front",
        "meta", "retry", "on_success", "on_failure", "unique", *ABSENT,
    }
)  # fmt: skip
KEPT: Final = {"result_ttl": 7 * 86400, "failure_ttl": 30 * 86400}
"""The seconds for which a PgQueue keeps succeeded and failed jobs."""
UNLIMITED: Final = {"soft_timeout": None, "timeout": None}


@dataclass(frozen=True)
class Wanted:
    """A call, and RQ's options for it."""

    func: Function
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    options: Mapping[str, Any]


class EnqueueData:
    """A call for `enqueue_many`."""

    def __init__(
        self,
        func: Function,
        args: Iterable[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        timeout: float | str | None = None,
        **options: Any,
    ) -> None:
        self.func = func
        self.args = tuple(args or ())
        self.kwargs = dict(kwargs or {})
        self.options = {"job_timeout": timeout, **options}

    def wanted(self) -> Wanted:
        """Return it as a call."""
        return Wanted(self.func, self.args, self.kwargs, self.options)


def read(function: Function, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Wanted:
    """Return the call that `enqueue(function, *args, **kwargs)` means."""
    options = {name: value for name, value in kwargs.items() if name in OPTIONS}
    named = {name: value for name, value in kwargs.items() if name not in OPTIONS}
    if "args" not in named and "kwargs" not in named:
        return Wanted(function, args, named, options)
    if args:
        raise ValueError("Extra positional arguments cannot be used when using explicit args and kwargs")
    return Wanted(function, tuple(named.get("args") or ()), dict(named.get("kwargs") or {}), options)


def signature_of(
    wanted: Wanted, connection: Redis, queue: str, timeout: float | None, more: Mapping[str, Any]
) -> Signature[Any]:
    """Return the call of pgqueue. Raises what `Queue.enqueue` raises."""
    given = {
        name: value for name, value in wanted.options.items() if value is not None and value is not False
    }
    for name in given:
        if name in ABSENT:
            raise not_there(f"enqueue({name}=)", ABSENT[name])
        if name not in OPTIONS:
            raise TypeError(f"enqueue: unknown option {name!r}")
    options: Any = {"queue": queue, **_limits(given, timeout), **_fate(given), **_identity(given), **more}
    options |= _behind(given.get("depends_on"), connection)
    headers = {
        **read_headers(given.get("meta"), given.get("description")),
        **read_callback(ON_SUCCESS, given.get("on_success")),
        **read_callback(ON_FAILURE, given.get("on_failure")),
    }
    if headers:
        options["headers"] = headers
    if given.get("at_front"):
        options["at_front"] = True
    return _call(connection.pgqueue, wanted.func, options).clone(*wanted.args, **wanted.kwargs)


def _call(pgq: PgQueue, function: Function, options: Any) -> Signature[Any]:
    if isinstance(function, str):
        return pgq.signature(function, options=options)
    path = path_of(function)
    # It is this process that names the function: so the call is checked against it.
    pgq.allow_importing(function.__module__)
    call = pgq.signature(function, options=options)
    if call.definition is None:
        # A worker could not run it either. This says why.
        PgQueue().task(name=path)(function)
        raise ValueError(f"a worker cannot import {path}: it must be a function of a module")
    return call


def _limits(given: Mapping[str, Any], timeout: float | None) -> dict[str, Any]:
    """Return how long it may run, and how often."""
    options: dict[str, Any] = {}
    limit = seconds_of("job_timeout", given.get("job_timeout")) or timeout
    if limit is not None:
        options |= {"soft_timeout": limit, "timeout": limit + KILL_AFTER} if limit > 0 else UNLIMITED
    retry = given.get("retry")
    if retry is not None:
        if not isinstance(retry, Retry):
            raise TypeError(f"enqueue: retry must be a Retry of pgqueue.compat.rq, got {retry!r}")
        options |= {"max_retries": retry.max, "retry_intervals": retry.intervals or [0]}
    return options


def _fate(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return how long it waits, and what is kept of it."""
    options: dict[str, Any] = {}
    ttl = seconds_of("ttl", given.get("ttl"))
    if ttl is not None:
        options["expires"] = ttl
    for name, kept in KEPT.items():
        wanted = seconds_of(name, given.get(name))
        if wanted is not None and not 0 <= wanted <= kept:
            raise not_there(
                f"enqueue({name}={given[name]!r})",
                f"ended jobs are kept for {kept // 86400} days; PgQueue(retention=...) has another time",
            )
    if given.get("result_ttl", 1) == 0:
        options["ignore_result"] = True
    return options


def _identity(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return by what it is found, and what stands for it."""
    job_id = given.get("job_id")
    if job_id is None:
        if given.get("unique"):
            raise ValueError("unique=True requires an explicit job_id")
        return {}
    options: dict[str, Any] = {"key": job_id}
    if given.get("unique"):
        options |= {
            "idempotency_key": job_id,
            "idempotency_scope": "global",
            "idempotency_while": "terminal",
            "idempotency_fingerprint": False,
            "on_conflict": "raise",
        }
    return options


def _behind(given: Any, connection: Redis) -> dict[str, Any]:
    """Return which jobs it waits for."""
    if not given:
        return {}
    before = given if isinstance(given, Dependency) else Dependency(given)
    options: dict[str, Any] = {"depends_on": [_id_of(each, connection) for each in before.dependencies]}
    if before.allow_failure:
        options["allow_failure"] = True
    return options | ({"at_front": True} if before.enqueue_at_front else {})


def _id_of(job: Job | str, connection: Redis) -> UUID:
    if isinstance(job, Job):
        return job.uuid
    record = find(job, connection)
    if record is None:
        raise NoSuchJobError(f"No such job: {job}")
    return record.id
