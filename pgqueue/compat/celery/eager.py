"""Runs tasks in place: `apply`, and what is sent with task_always_eager. Nothing is stored."""

from __future__ import annotations

import socket
import traceback
from collections.abc import Mapping
from typing import Any
from uuid import uuid4

from pgqueue import Snooze, SoftTimeLimitExceeded
from pgqueue.compat.celery import canvas, states
from pgqueue.compat.celery.exceptions import Ignore, Reject, Retry
from pgqueue.compat.celery.request import Request
from pgqueue.compat.celery.result import EagerResult, GroupResult
from pgqueue.compat.celery.running import run
from pgqueue.compat.celery.wire import unpack


def run_here(
    app: Any, task: Any, args: tuple[Any, ...], kwargs: dict[str, Any], options: Mapping[str, Any]
) -> EagerResult:
    """Run a task with its retries, whose delays are left out, and with its callbacks."""
    throws = options.get("throw")
    throws = app.conf.task_eager_propagates if throws is None else throws
    task_id = str(options.get("task_id") or uuid4())
    retries = options.get("retries", 0)
    links, errbacks = canvas.callbacks_of(options)
    while True:
        request = _request(task, task_id, args, kwargs, retries, options)
        try:
            value = run(task, request, args, kwargs, packs=False)
        except Retry as again:
            retries += 1
            if again.call is not None:
                args, kwargs = tuple(map(unpack, again.call[0])), unpack(again.call[1])
            continue
        except Ignore:
            return EagerResult(task_id, None, states.IGNORED, name=task.name)
        except (Reject, Snooze) as error:
            return EagerResult(task_id, error, states.REJECTED, name=task.name)
        except (Exception, SoftTimeLimitExceeded) as error:
            for each in errbacks:
                told = (request, error, None) if each.type.takes_error else (task_id,)
                run_canvas(app, each.clone(told))
            if throws:
                raise
            return EagerResult(task_id, error, states.FAILURE, traceback.format_exc(), task.name)
        for each in links:
            run_canvas(app, each.clone((value,)))
        return EagerResult(task_id, value, states.SUCCESS, name=task.name)


def _request(
    task: Any,
    task_id: str,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    retries: int,
    options: Mapping[str, Any],
) -> Request:
    return Request(
        task=task.name,
        id=task_id,
        args=list(args),
        kwargs=dict(kwargs),
        retries=retries,
        hostname=socket.gethostname(),
        headers=options.get("headers"),
        delivery_info={"is_eager": True, "exchange": None, "routing_key": None, "priority": None},
        is_eager=True,
        called_directly=False,
    )


def run_canvas(app: Any, part: Any) -> Any:
    """Run a call, or several that are composed, one after the other."""
    match part:
        case canvas.Signature():
            return run_here(app, app.tasks[part.task], part.args, part.kwargs, part.options)
        case canvas.chunks():
            return run_canvas(app, part.group())
        case canvas.chain():
            result = None
            for each in part.tasks:
                given = () if result is None else (_value_of(result),)
                before, result = result, run_canvas(app, each.clone(given))
                result.parent = before
            return result
        case canvas.group():
            return GroupResult(str(uuid4()), [run_canvas(app, each) for each in part.tasks])
        case canvas.chord():
            return run_canvas(app, canvas.chain(part.header, part.body, app=app))
        case _:
            raise TypeError(f"only calls such as task.s(...) can be composed, got {part!r}")


def _value_of(result: Any) -> Any:
    """Return what a result that was made here comes to. Raises what a task of it raised."""
    if isinstance(result, GroupResult):
        return [_value_of(each) for each in result.results]
    return result.maybe_throw() if result.state in states.PROPAGATE_STATES else result.result
