"""From Celery's canvas to pgqueue's: a chain, a group or a chord becomes one workflow."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final
from uuid import UUID

from pgqueue import chain as pgqueue_chain
from pgqueue import chord as pgqueue_chord
from pgqueue import group_of
from pgqueue.compat.celery.canvas import (
    Part,
    Signature,
    callbacks_of,
    chain,
    chord,
    group,
    pack_all,
    pack_named,
)
from pgqueue.compat.celery.exceptions import ImproperlyConfigured
from pgqueue.compat.celery.result import AsyncResult, GroupResult
from pgqueue.compat.celery.running import CALLBACK, NAMED
from pgqueue.compat.celery.sending import CALLBACKS, call_options
from pgqueue.compat.missing import not_there


def compile_part(app: Any, part: Any) -> Any:
    """Return what *part* is for pgqueue."""
    match part:
        case Signature():
            return with_callbacks(app, compile_call(app, part, {**part.options, **_KEPT}), part.options)
        case chain():
            if not part.tasks:
                raise ImproperlyConfigured("a chain must have at least one task")
            whole = pgqueue_chain(*(compile_part(app, each) for each in part.tasks))
        case chord():
            if part.body is None:
                raise ImproperlyConfigured("a chord must have a body: chord(header)(body)")
            header = group_of([compile_part(app, each) for each in part.header.tasks])
            header = _with_options(app, header, part.header.options)
            whole = pgqueue_chord(header.members, compile_part(app, part.body))
        case group():
            check_group(part)
            whole = group_of([compile_part(app, each) for each in part.tasks])
        case _:
            raise TypeError(f"only calls such as task.s(...) can be composed, got {part!r}")
    return with_callbacks(app, _with_options(app, whole, part.options), part.options)


def compile_call(
    app: Any,
    call: Signature,
    options: Mapping[str, Any],
    callback: str | None = None,
    *,
    sends: bool = True,
) -> Any:
    """Return a call for pgqueue: of the client's task, if it *sends* it, or else of the workers'.

    *callback*: what it is called for, if it is a callback.
    """
    task = app.tasks.get(call.task)
    given = call_options(app, task, call.task, options)
    headers = {NAMED: ",".join(call.kwargs)} if call.kwargs else {}
    if callback is not None and not call.immutable:
        headers[CALLBACK] = callback
    if headers:
        given["headers"] = {**given.get("headers", {}), **headers}
    app.check_queue(call.task, given.get("queue"))
    args, kwargs = pack_all(call.args), pack_named(call.kwargs)
    if callback == "error" and task is not None and task.takes_error and not call.immutable:
        # Places of the error and of its traceback, behind that of the request.
        args = (None, None, *args)
    if task is None:
        if call.immutable:
            raise not_there(
                f"an immutable call of {call.task!r}", "import its task here: no task has this name"
            )
        named = app.served.signature(call.task, options={"queue": app.conf.task_default_queue, **given})
        return named.clone(*args, **kwargs)
    declared = (app.sent if sends else app.declared)(task)
    made = declared.si(*args, **kwargs) if call.immutable else declared.s(*args, **kwargs)
    return made.set(**given) if given else made


def with_callbacks(app: Any, whole: Any, options: Mapping[str, Any]) -> Any:
    """Return *whole* with the callbacks that *options* have."""
    found = {}
    for name, kind, calls in zip(
        ("on_success", "on_error"), ("link", "error"), callbacks_of(options), strict=True
    ):
        if calls:
            found[name] = [_callback(app, each, kind) for each in calls]
    return whole.set(**found) if found else whole


def _callback(app: Any, call: Any, kind: str) -> Any:
    is_single = isinstance(call, Signature) and not any(callbacks_of(call.options))
    if is_single:
        return compile_call(app, call, call.options, kind)
    if kind == "error":
        raise not_there("an error callback that is composed", "let the callback send the rest")
    if not isinstance(call, Part):
        raise TypeError(f"a callback is a call such as task.s(...), got {call!r}")
    # A job of its own, which has the result, sends what is composed.
    return compile_call(app, Signature(SENDER, (call,), app=app), {}, kind)


def _with_options(app: Any, whole: Any, options: Mapping[str, Any]) -> Any:
    named = {name: value for name, value in options.items() if name not in CALLBACKS}
    if not named:
        return whole
    # No route: each of its tasks has its own.
    given = call_options(app, _ANY, "a canvas", named)
    return whole.set(**given)


SENDER: Final = "celery.send_callback"
"""The task that sends a callback which is composed, with the result before its arguments."""
_KEPT: Final = {"ignore_result": False}
"""In a canvas the next task takes the result, also of a task whose results are ignored."""


class _Any:
    """Any task, for options of several."""

    queue = "its own"
    is_isolated = True


_ANY = _Any()


def check_group(part: group) -> None:
    """Raise TypeError for a callback of a whole group, as Celery does."""
    if part.options.get("link"):
        raise TypeError("Cannot add link to group: use a chord")
    if part.options.get("link_error"):
        raise TypeError("Cannot add link to group: do that on individual tasks")


def is_simple(part: Part) -> bool:
    """Whether a member of a group is one job and nothing else."""
    return isinstance(part, Signature) and not any(callbacks_of(part.options))


def ends_with_group(part: Any) -> bool:
    """Whether what *part* comes to is a list of several tasks' results."""
    while isinstance(part, chain | chord):
        part = part.tasks[-1] if isinstance(part, chain) else part.body
    return isinstance(part, group)


def has_chord_end(part: Any) -> bool:
    """Whether the last task of *part* waits for a group."""
    if isinstance(part, chain) and len(part.tasks) > 1 and ends_with_group(part.tasks[-2]):
        return isinstance(part.tasks[-1], Signature)
    while isinstance(part, chain):
        part = part.tasks[-1]
    return isinstance(part, chord)


def results_before(app: Any, node: UUID, workflow: UUID | None = None) -> Any:
    """Return the result of what comes before a job in its workflow; None: nothing does.

    *node*: a job, or the end of a group in *workflow*: then it is the GroupResult of the group.
    """
    client = app.client
    workflow = workflow or client.workflow_of(node)
    if workflow is None:
        return None
    _, jobs, edges = client.read_graph(workflow)
    known = {job.id for job in jobs}
    waits: dict[UUID, list[UUID]] = {}
    for edge in sorted(edges, key=lambda edge: edge.position):
        waits.setdefault(edge.downstream, []).append(edge.upstream)
    if node not in known:
        return _result_of(app, known, waits, node)
    before = waits.get(node, [])
    if len(before) == 1:
        return _result_of(app, known, waits, before[0])
    return _group_result(app, known, waits, node, before) if before else None


def _result_of(app: Any, known: set[UUID], waits: Mapping[UUID, list[UUID]], node: UUID) -> Any:
    """Return the result of a job, or of the group that ends at *node*."""
    if node in known:
        return AsyncResult(node, app=app)
    return _group_result(app, known, waits, node, waits.get(node, []))


def _group_result(
    app: Any, known: set[UUID], waits: Mapping[UUID, list[UUID]], node: UUID, members: list[UUID]
) -> Any:
    """Return the result of a group. Its parent is what all of its members wait for."""
    if not members:
        return None
    lines = [list(_line(waits, each)) for each in members]
    others = [set(line) for line in lines[1:]]
    shared = next((each for each in lines[0] if all(each in line for line in others)), None)
    parent = None if shared is None else _result_of(app, known, waits, shared)
    return GroupResult(str(node), [AsyncResult(each, app=app) for each in members], parent)


def _line(waits: Mapping[UUID, list[UUID]], node: UUID) -> Iterator[UUID]:
    """Yield what comes before a job, as far as it is one after the other."""
    before = waits.get(node, [])
    while len(before) == 1:
        yield before[0]
        before = waits.get(before[0], [])
