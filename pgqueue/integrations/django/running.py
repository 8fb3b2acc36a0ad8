"""Runs Django's tasks as tasks of a PgQueue."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from importlib import import_module, util
from inspect import iscoroutinefunction
from typing import Any, Final
from uuid import UUID

from asgiref.sync import ThreadSensitiveContext, sync_to_async
from django.apps import apps
from django.conf import settings as django_settings
from django.db import DatabaseError, InterfaceError, close_old_connections, connections
from django.utils import timezone

from pgqueue import DeadLetter, JobContext
from pgqueue.errors import InvalidTaskError
from pgqueue.integrations.django.enqueueing import DjangoQueue
from pgqueue.integrations.django.framework import (
    InvalidTaskBackend,
    Task,
    TaskContext,
    TaskResult,
    TaskResultDoesNotExist,
    TaskResultStatus,
    normalize_json,
    signals,
    task_backends,
)
from pgqueue.integrations.django.keys import with_keys
from pgqueue.integrations.django.known import tasks as _tasks
from pgqueue.integrations.django.results import as_enqueued
from pgqueue.integrations.django.settings import BackendSettings
from pgqueue.options.levels import read_options
from pgqueue.options.table import Level
from pgqueue.tasks.definition import check_isolation
from pgqueue.tasks.signature import Signature

KEPT_ERRORS: Final = 1000
"""Exceptions of attempts that are kept until their jobs are known to have failed."""

NO_OPTIONS: Final = frozenset({"limits", "ordered_by", "on_dead", "isolation"})
"""What `PgQueue.task` takes besides options."""
KEYED: Final = frozenset({"limits", "ordered_by"})
"""Of these, what may have keys, which come from arguments."""

_lock: Final = threading.RLock()
_queues: Final[dict[tuple[str, str, str], _Queue]] = {}
"""By the backend's alias, database and settings: tests have databases of their own."""


def declare(task: Any) -> None:
    """Have the workers of this process know a task. Raises InvalidTaskError."""
    path = task.module_path
    with _lock:
        known = _tasks.get(path)
        if known is not None and known.func is task.func:
            if getattr(known, "options", {}) != getattr(task, "options", {}):
                raise InvalidTaskError(
                    f"task {path!r} has other options already, and one function has those of one task; wrap "
                    "it in a function of another name"
                )
            return
        _tasks[path] = task
        for each in _queues.values():
            each.declare(path)


def check_options(task: Any) -> None:
    """Check the options of a task. Raises InvalidOptionError, InvalidTaskError."""
    options = getattr(task, "options", {})
    where = f"task {task.name!r}"
    read_options(where, {name: options[name] for name in options.keys() - NO_OPTIONS}, Level.TASK)
    for name in KEYED & options.keys():
        with_keys(task, options[name])
    check_isolation(where, options.get("isolation"))


def call_of(alias: str, task: Any, args: list[Any], kwargs: dict[str, Any]) -> Signature[Any]:
    """Return the call that a task of Django's is enqueued by. Raises InvalidOptionError."""
    path, registry = task.module_path, queue(alias).registry
    options: dict[str, Any] = {"queue": task.queue_name, "priority": task.priority}
    if task.run_after is not None:
        at = task.run_after
        options["run_at"] = (
            timezone.make_aware(at, timezone.get_default_timezone()) if timezone.is_naive(at) else at
        )
    call = read_options(f"task {path!r}", options, Level.CALL)
    return Signature(path, (), {"args": args, "kwargs": kwargs}, call, registry.get(path))


def queue(alias: str = "default") -> DjangoQueue:
    """Return the PgQueue of a backend: for the dashboard, for `pgqueue.blocking`, for tasks of pgqueue's own.

    One for each process, not open. Raises ImproperlyConfigured, ConfigurationError, InvalidOptionError.
    """
    backend = task_backends()[alias]
    settings = getattr(backend, "settings", None)
    if not isinstance(settings, BackendSettings):
        raise InvalidTaskBackend(f"TASKS[{alias!r}] does not use pgqueue.integrations.django.PgQueueBackend")
    key = alias, settings.address(), f"{settings.schema} {sorted(backend.queues)} {settings.rest}"
    with _lock:
        if key not in _queues:
            made = _Queue(settings, sorted(backend.queues))
            for path in _tasks:
                made.declare(path)
            _queues[key] = made
        return _queues[key].pgq


def discover(alias: str) -> None:
    """Import the modules that have tasks: `tasks` of each app, and those that the backend includes."""
    names = [f"{app.name}.tasks" for app in apps.get_app_configs()]
    names = [name for name in names if util.find_spec(name) is not None]
    for name in (*names, *task_backends()[alias].settings.include):
        for value in list(vars(import_module(name)).values()):
            # Also one of another backend, which is enqueued by `.using(backend=...)`.
            if isinstance(value, Task):
                declare(value)


class _Queue:
    """A PgQueue, and Django's tasks as tasks of it."""

    def __init__(self, settings: BackendSettings, queues: list[str]) -> None:
        self._settings = settings
        self._queues = queues
        self._declared: set[str] = set()
        self._isolated: set[str] = set()
        """The paths of tasks that run in child processes."""
        self._errors: OrderedDict[UUID, BaseException] = OrderedDict()
        # Django's other backends run a task once. So does this one, unless it is told otherwise.
        options: Any = {"max_retries": 0, **(settings.rest or {})}
        self.pgq = DjangoQueue(settings, **options)
        for name in queues:
            self.pgq.queue(name)
        self.pgq.on_dead(self._tell_of_failure)

    def declare(self, path: str) -> None:
        """Declare a task of Django's. The handler looks it up: a module may be loaded again."""
        if path in self._declared:
            return
        task = _tasks[path]
        self._declared.add(path)
        own = task.queue_name if not self._queues or task.queue_name in self._queues else self._queues[0]
        options = dict(getattr(task, "options", {}))
        handler: Callable[..., Any] = (
            self._awaited(path) if iscoroutinefunction(task.func) else self._plain(path)
        )
        for name in KEYED & options.keys():
            options[name] = with_keys(task, options[name])
        if options.get("isolation") == "process":
            self._isolated.add(path)
        # As which it is told of in errors and logs.
        handler.__module__, handler.__qualname__ = task.func.__module__, task.func.__qualname__
        declared = self.pgq.task(name=path, queue=own, **options)(handler)
        # A child process imports the modules that have tasks, as this one does.
        declared.definition.found_in = f"pgqueue.integrations.django.queues:{self._settings.alias}"

    def _plain(self, path: str) -> Callable[..., Any]:
        def run(ctx: JobContext, args: list[Any], kwargs: dict[str, Any]) -> Any:
            close_old_connections()
            try:
                backend, result, given = self._begin(ctx, path, args, kwargs)
                signals.task_started.send_robust(type(backend), task_result=result)
                value = normalize_json(_tasks[path].func(*given, **kwargs))
                _end(result, value)
                signals.task_finished.send_robust(type(backend), task_result=result)
                return value
            except BaseException as error:
                self._keep(path, ctx.job_id, error)
                raise
            finally:
                close_old_connections()

        return run

    def _awaited(self, path: str) -> Callable[..., Any]:
        async def run(ctx: JobContext, args: list[Any], kwargs: dict[str, Any]) -> Any:
            # A thread of its own for what the task runs by `sync_to_async`: the ORM, say.
            async with ThreadSensitiveContext():
                try:
                    backend, result, given = await sync_to_async(self._begin)(ctx, path, args, kwargs)
                    await signals.task_started.asend_robust(type(backend), task_result=result)
                    value = normalize_json(await _tasks[path].func(*given, **kwargs))
                    _end(result, value)
                    await signals.task_finished.asend_robust(type(backend), task_result=result)
                    return value
                except BaseException as error:
                    self._keep(path, ctx.job_id, error)
                    raise
                finally:
                    # The thread ends with the context.
                    await sync_to_async(connections.close_all)()

        return run

    def _begin(
        self, ctx: JobContext, path: str, args: list[Any], kwargs: dict[str, Any]
    ) -> tuple[Any, Any, list[Any]]:
        """Return the backend, the result so far, and the arguments that the function is given by position."""
        backend = task_backends()[self._settings.alias]
        task = as_enqueued(_tasks[path], backend, queue=ctx.queue, priority=ctx.priority)
        if ctx.attempt == 1 and ctx.losses == 0:
            result = _first_result(ctx, task, args, kwargs, self._settings.alias)
        else:
            result = self._later_result(backend, ctx, task, args, kwargs)
        return backend, result, [TaskContext(task_result=result), *args] if task.takes_context else args

    def _later_result(
        self, backend: Any, ctx: JobContext, task: Any, args: list[Any], kwargs: dict[str, Any]
    ) -> Any:
        try:
            result = backend.get_result(str(ctx.job_id))
        except (DatabaseError, InterfaceError, TaskResultDoesNotExist):
            # That it cannot be read now is no error of the task, which is told less of earlier attempts.
            result = _first_result(ctx, task, args, kwargs, self._settings.alias)
            result.worker_ids[:0] = [""] * (ctx.attempt - 1)
        object.__setattr__(result, "status", TaskResultStatus.RUNNING)
        return result

    def _keep(self, path: str, job_id: UUID, error: BaseException) -> None:
        if path in self._isolated:
            # This is a child process, and its worker tells of the failure.
            return
        with _lock:
            self._errors[job_id] = error
            while len(self._errors) > KEPT_ERRORS:
                self._errors.popitem(last=False)

    def _tell_of_failure(self, letter: DeadLetter) -> None:
        """Send the signal of a task that has failed, once that is committed and no retry is to come."""
        with _lock:
            error = self._errors.pop(letter.job_id, None)
        if letter.task not in self._declared:
            return
        close_old_connections()
        try:
            backend = task_backends()[self._settings.alias]
            result = backend.get_result(str(letter.job_id))
            try:
                if error is not None:
                    raise error  # noqa: TRY301
            except BaseException:
                # Receivers find the exception in `sys.exc_info()`.
                signals.task_finished.send_robust(type(backend), task_result=result)
            else:
                signals.task_finished.send_robust(type(backend), task_result=result)
        finally:
            close_old_connections()


def _first_result(ctx: JobContext, task: Any, args: list[Any], kwargs: dict[str, Any], alias: str) -> Any:
    now = timezone.now()
    at = ctx.created_at or now
    return TaskResult(
        task=task,
        id=str(ctx.job_id),
        status=TaskResultStatus.RUNNING,
        enqueued_at=at if django_settings.USE_TZ or timezone.is_naive(at) else timezone.make_naive(at),
        started_at=now,
        finished_at=None,
        last_attempted_at=now,
        args=args,
        kwargs=kwargs,
        backend=alias,
        errors=[],
        worker_ids=[ctx.worker],
    )


def _end(result: Any, value: Any) -> None:
    object.__setattr__(result, "status", TaskResultStatus.SUCCESSFUL)
    object.__setattr__(result, "finished_at", timezone.now())
    object.__setattr__(result, "_return_value", value)
