"""Runs a task of Celery's: around its function are the request, the hooks, the signals and the retries."""

from __future__ import annotations

import inspect
import os
import random
import sys
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pgqueue import Snooze, SoftTimeLimitExceeded, current_job
from pgqueue.compat.celery import current, signals, states
from pgqueue.compat.celery.exceptions import Ignore, Reject, Retry
from pgqueue.compat.celery.request import Request
from pgqueue.compat.celery.result import AsyncResult
from pgqueue.compat.celery.wire import pack, unpack

CALLBACK: Final = "pgqueue-celery-callback"
"""The header of jobs that are callbacks: `link` or `error`."""
NAMED: Final = "pgqueue-celery-named"
"""The header of jobs of calls by name: the names. Arguments are stored by name, however they were passed."""
LEFT_OUT: Final = object()
"""Stands for a default of the function's, so that what was not passed can be told."""
_PLAIN: Final[list[Any]] = []
"""How tasks are called that do not override it."""
_begun: Final[set[int]] = set()


@dataclass(frozen=True, slots=True)
class ExceptionInfo:
    """What hooks and signals are told of an exception: Celery's `einfo`."""

    exception: BaseException
    traceback: str

    @property
    def type(self) -> type[BaseException]:
        """The class of the exception."""
        return type(self.exception)

    def __str__(self) -> str:
        return self.traceback


def begin_process() -> None:
    """Send `worker_process_init`, before the first task of a process."""
    if os.getpid() not in _begun:
        _begun.add(os.getpid())
        signals.worker_process_init.send(sender=None)


def set_plain_call(call: Any) -> None:
    """Say how tasks are called that do not override it."""
    _PLAIN[:] = [call]


def _close_old_connections() -> None:
    """Have Django give up connections that are too old or broken, where it is used."""
    conf, database = sys.modules.get("django.conf"), sys.modules.get("django.db")
    if conf is not None and database is not None and conf.settings.configured:
        database.close_old_connections()


def run_job(task: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Run *task* for the job that is running here; return its packed result.

    Raises what the task raises, and what its retry is for pgqueue.
    """
    begin_process()
    context = current_job()
    args, kwargs = _as_called(task, args, kwargs, context.headers.get(NAMED, "").split(","))
    callback = context.headers.get(CALLBACK)
    if callback is not None:
        args = _told(task, callback, args)
    _close_old_connections()
    try:
        return run(task, Request.of_job(context, args, kwargs), args, kwargs, packs=True)
    finally:
        _close_old_connections()


def _as_called(
    task: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], named: Sequence[str]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments as they were passed: by position, but for those that were *named*."""
    bound = task.parameters.bind(*args, **kwargs)
    positional: list[Any] = []
    by_name: dict[str, Any] = {}
    for name, value in bound.arguments.items():
        kind = task.parameters.parameters[name].kind
        if kind is inspect.Parameter.VAR_POSITIONAL:
            positional += value
        elif kind is inspect.Parameter.VAR_KEYWORD:
            by_name.update(value)
        # Behind one that was named, none can be passed by position.
        elif value is not LEFT_OUT and (kind is inspect.Parameter.KEYWORD_ONLY or by_name or name in named):
            by_name[name] = value
        elif value is not LEFT_OUT:
            positional.append(value)
    return tuple(map(unpack, positional)), {name: unpack(value) for name, value in by_name.items()}


def _told(task: Any, callback: str, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the arguments of a callback, whose first one is the outcome of what it is called for."""
    outcome, rest = args[0], args[1:]
    if callback == "link":
        return (unpack(outcome.get("result")), *rest)
    failed = AsyncResult(outcome["job_id"], app=task.app).culprit
    if not task.takes_error:
        return (failed.id, *rest)
    request = Request(id=failed.id, task=failed.name, called_directly=False)
    # Behind the outcome are the places of the error and of its traceback.
    return (request, failed.get(propagate=False, disable_sync_subtasks=False), failed.traceback, *args[3:])


def run(task: Any, request: Request, args: tuple[Any, ...], kwargs: Mapping[str, Any], *, packs: bool) -> Any:
    """Run *task* with its hooks and signals; return what it returned, packed if *packs*."""
    token = current.running.set((task, request))
    told: dict[str, Any] = {"task_id": request.id, "task": task, "args": list(args), "kwargs": dict(kwargs)}
    state, value = states.FAILURE, None
    try:
        signals.task_prerun.send(sender=task, **told)
        try:
            task.before_start(request.id, args, kwargs)
            value = _call(task, request, args, kwargs)
            packed = pack(value) if packs else value
        except BaseException as error:
            said = _said(task, request, error)
            state = _state_after(said)
            _tell(task, request, said, args, kwargs)
            if said is error:
                raise
            raise said from error
        state = states.SUCCESS
        task.on_success(value, request.id, args, kwargs)
        signals.task_success.send(sender=task, result=value)
        task.after_return(state, value, request.id, args, kwargs, None)
        return packed
    finally:
        signals.task_postrun.send(sender=task, retval=value, state=state, **told)
        current.running.reset(token)


def _call(task: Any, request: Request, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    if type(task).__call__ is _PLAIN[0]:
        value = task.run(*args, **kwargs)
    else:
        # Of a base of the user's: it is around each run, with an application's context for example.
        request.is_entering = True
        value = task(*args, **kwargs)
    if request.wanted is not None:
        raise request.wanted
    return value


def _said(task: Any, request: Request, error: BaseException) -> BaseException:
    """Return what *error* comes to: a retry if the task is retried for it."""
    if isinstance(error, Reject):
        return Snooze(0) if error.requeue else error
    if isinstance(error, Ignore | Retry) or not is_retried(task, error):
        return error
    try:
        task.retry(exc=error, **{**_delay_of(task, request), **(task.retry_kwargs or {})})
    except BaseException as again:
        return again
    raise AssertionError("unreachable: it raises always")


def is_retried(task: Any, error: BaseException) -> bool:
    """Whether `autoretry_for` has *error*. A soft limit is an Exception there, and none here."""
    kinds, never = tuple(task.autoretry_for or ()), tuple(task.dont_autoretry_for or ())
    kind: type[BaseException] = type(error)
    if isinstance(error, SoftTimeLimitExceeded):
        return _has_limit(kinds) and not _has_limit(never)
    return issubclass(kind, kinds) and not issubclass(kind, never)


def _has_limit(kinds: tuple[type[BaseException], ...]) -> bool:
    return any(each is Exception or issubclass(SoftTimeLimitExceeded, each) for each in kinds)


def _delay_of(task: Any, request: Request) -> dict[str, Any]:
    if not task.retry_backoff:
        return {}
    # At 2 to the power of 64 it is any maximum that there is.
    longest = min(task.retry_backoff_max, max(1, int(task.retry_backoff)) * 2 ** min(request.retries, 64))
    delay = int(longest)
    return {"countdown": random.randrange(delay + 1) if task.retry_jitter else delay}


def _state_after(said: BaseException) -> str:
    if isinstance(said, Retry):
        return states.RETRY
    if isinstance(said, Ignore):
        return states.IGNORED
    return states.REJECTED if isinstance(said, Reject | Snooze) else states.FAILURE


def _tell(
    task: Any, request: Request, said: BaseException, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> None:
    """Tell hooks and signals how an attempt ended without success."""
    state = _state_after(said)
    cause = said.exc if isinstance(said, Retry) and said.exc is not None else said
    if state in (states.FAILURE, states.RETRY):
        info = ExceptionInfo(cause, "".join(traceback.format_exception(cause)))
        if state == states.RETRY:
            task.on_retry(cause, request.id, args, kwargs, info)
            signals.task_retry.send(sender=task, request=request, reason=said, einfo=info)
        else:
            fail(task, request.id, cause, args, kwargs, info)
            task.after_return(state, cause, request.id, args, kwargs, info)


def fail(
    task: Any,
    task_id: str | None,
    error: BaseException,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    info: ExceptionInfo,
) -> None:
    """Call `on_failure`, and send `task_failure`."""
    task.on_failure(error, task_id, args, kwargs, info)
    signals.task_failure.send(
        sender=task,
        task_id=task_id,
        exception=error,
        args=list(args),
        kwargs=dict(kwargs),
        traceback=error.__traceback__ or sys.exc_info()[2],
        einfo=info,
    )
