"""The calls of tasks that requests ask for: which tasks they may name, and what their jobs carry."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from starlette.requests import Request

from pgqueue.app import PgQueue
from pgqueue.errors import InvalidArgumentsError
from pgqueue.options.levels import read_options
from pgqueue.options.table import Level
from pgqueue.tasks.definition import TaskDefinition
from pgqueue.tasks.signature import Signature
from pgqueue.web.http.problems import ProblemError, argument_errors
from pgqueue.web.security.access import OWNER, Access
from pgqueue.web.settings import WebSettings


async def scheduled_call(
    request: Request,
    pgq: PgQueue,
    settings: WebSettings,
    access: Access,
    task: str,
    arguments: dict[str, Any] | list[Any],
    options: Mapping[str, Any],
) -> Signature[Any]:
    """Return the call that *request* wants a schedule to make, if it may submit it. Raises HTTPException.

    *options*: its queue and its priority, as far as they are given.
    """
    await access.check(request, "enqueue", f"task:{task}")
    for kind, value in options.items():
        await access.check(request, "enqueue", f"{kind}:{value}")
    definition = definition_of(pgq, settings, task)
    return call_of(pgq, task, definition, arguments, options, stamps_of(request, settings, access))


def definition_of(pgq: PgQueue, settings: WebSettings, task: str) -> TaskDefinition | None:
    """Return the definition of *task*; None: another program declares it. Raises ProblemError 422."""
    definition = pgq.registry.get(task)
    if definition is None and not settings.allow_unknown_tasks:
        problem = "this service declares no task with this name"
        raise ProblemError(422, problem, errors=[{"field": "task", "message": problem}])
    return definition


def stamps_of(request: Request, settings: WebSettings, access: Access) -> dict[str, str]:
    """Return the headers that the service gives to the jobs of *request*, whose owner is among them."""
    stamps: dict[str, str] = {}
    if settings.job_headers is not None:
        stamps |= settings.job_headers(request)
    owner = access.owner_of(request)
    if owner is not None:
        stamps[OWNER] = owner
    return stamps


def call_of(
    pgq: PgQueue,
    task: str,
    definition: TaskDefinition | None,
    arguments: dict[str, Any] | list[Any],
    options: Mapping[str, Any],
    stamps: Mapping[str, str],
) -> Signature[Any]:
    """Return a call of *task* with JSON arguments. Raises InvalidOptionError."""
    where = f"task {task!r}"
    call = read_options(where, options, Level.CALL)
    if stamps:
        # Only the most specific level's headers count: those of the task would be lost.
        headers = pgq.registry.resolve(task, definition, call)["headers"]
        call |= read_options(where, {"headers": {**headers, **stamps}}, Level.CALL)
    checked = None if definition is None else definition.for_json()
    if isinstance(arguments, dict):
        return Signature(task, (), arguments, call, checked)
    return Signature(task, tuple(arguments), {}, call, checked)


def key_scope_of(task: str, resolved: Mapping[str, Any]) -> str:
    """Return the scope of the key that a task declares, with the name of what it is a scope of."""
    scope: str = resolved["idempotency_scope"]
    return {"task": f"task:{task}", "queue": f"queue:{resolved['queue']}"}.get(scope, scope)


@contextmanager
def hiding_secrets(pgq: PgQueue, signature: Signature[Any]) -> Iterator[None]:
    """Say of the invalid arguments of a call only what is no secret. Raises ProblemError 422."""
    try:
        yield
    except InvalidArgumentsError as error:
        if not error.errors or not _redacts(pgq, signature):
            raise
        problem = f"task {signature.task!r}: the arguments do not match its parameters"
        raise ProblemError(422, problem, errors=argument_errors(error, names_extra=False)) from None


def _redacts(pgq: PgQueue, signature: Signature[Any]) -> bool:
    """Whether some arguments of such calls are secret, so that a surplus one may be one of them."""
    options = pgq.registry.resolve(signature.task, signature.definition, signature.options)
    return pgq.registry.redacts(signature.task, options["queue"])
