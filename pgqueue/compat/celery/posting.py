"""Sends tasks: one, or several that are composed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import uuid4

from pgqueue.compat.celery import canvas
from pgqueue.compat.celery.compiling import (
    check_group,
    compile_call,
    compile_part,
    ends_with_group,
    has_chord_end,
    is_simple,
    results_before,
    with_callbacks,
)
from pgqueue.compat.celery.eager import run_canvas, run_here
from pgqueue.compat.celery.result import AsyncResult, GroupResult


def send(
    app: Any,
    task: Any,
    name: str,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    options: Mapping[str, Any],
) -> Any:
    """Send a task. *task*: None if it is sent by its name, and not known here."""
    known = app.tasks.get(name) if task is None else task
    if known is not None:
        # A TypeError at the call, which names what is missing.
        known.parameters.bind(*args, **kwargs)
    if app.conf.task_always_eager and task is not None:
        return run_here(app, task, args, kwargs, options)
    call = canvas.Signature(name, args, kwargs, options, app=app)
    # Read before the database is opened: what is refused needs none.
    kept = {"ignore_result": False} if canvas.callbacks_of(options)[0] else {}
    whole = with_callbacks(app, compile_call(app, call, {**options, **kept}), options)
    handle = app.client.enqueue(whole)
    result = AsyncResult(handle.id, task_name=name, app=app)
    ignores = options.get("ignore_result")
    result.ignored = bool(task is not None and task.ignores_result if ignores is None else ignores)
    return result


def send_canvas(app: Any, part: Any) -> Any:
    """Send a call, or several that are composed: all of them or nothing. Return the result."""
    if isinstance(part, canvas.chunks):
        part = part.group()
    if isinstance(part, canvas.group):
        check_group(part)
    if app.conf.task_always_eager:
        return run_canvas(app, part)
    if isinstance(part, canvas.Signature):
        return send(app, app.tasks.get(part.task), part.task, part.args, part.kwargs, part.options)
    if isinstance(part, canvas.group):
        return _send_group(app, part)
    whole = compile_part(app, part)
    handle = app.client.enqueue_workflow(whole)
    if ends_with_group(part):
        return results_before(app, handle.id, handle.workflow_id)
    return AsyncResult(handle.id, app=app, is_chord=has_chord_end(part))


def _send_group(app: Any, part: canvas.group) -> GroupResult:
    if not part.tasks:
        return GroupResult(str(uuid4()))
    if all(map(is_simple, part.tasks)):
        # Jobs of their own: nothing waits for them.
        calls = [compile_call(app, each, {**part.options, **each.options}) for each in part.tasks]
        results = [AsyncResult(each.id, app=app) for each in app.client.enqueue_many(calls)]
        return GroupResult(str(uuid4()), results)
    whole = compile_part(app, part)
    handle = app.client.enqueue_workflow(whole)
    result: GroupResult = results_before(app, handle.id, handle.workflow_id)
    return result
