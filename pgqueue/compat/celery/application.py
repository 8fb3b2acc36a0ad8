"""The app of Celery's users, over a PgQueue."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from functools import partial
from typing import Any
from uuid import UUID

from pgqueue import DuplicateTaskError, UnknownQueueError
from pgqueue.compat.celery import canvas, current, loading
from pgqueue.compat.celery.beneath import Beneath
from pgqueue.compat.celery.compiling import SENDER, results_before
from pgqueue.compat.celery.conf import read_object
from pgqueue.compat.celery.control import Control
from pgqueue.compat.celery.eager import run_canvas, run_here
from pgqueue.compat.celery.exceptions import ImproperlyConfigured
from pgqueue.compat.celery.making import make_task, place_of
from pgqueue.compat.celery.posting import send, send_canvas
from pgqueue.compat.celery.result import AsyncResult, GroupResult, ResultSet
from pgqueue.compat.celery.sending import args_of, queue_name, zone_of
from pgqueue.compat.celery.task import Task as BaseTask
from pgqueue.compat.celery.ways import NO_PARTS, WAYS
from pgqueue.compat.missing import not_there


class Celery(Beneath):
    """An app: tasks, settings, and the database of their jobs.

    *broker* takes the DSN of a PostgreSQL, as *backend* does; without one, it is that of PGQUEUE_DSN. The
    address of anything else is ignored with one warning where PGQUEUE_DSN is set, and is a ConfigurationError
    where it is not. Nothing is connected to until a task is sent. `pgqueue worker MODULE:APP` works for it.
    """

    def __init__(
        self,
        main: str | None = None,
        *,
        broker: object = None,
        backend: object = None,
        include: Iterable[str] | None = None,
        set_as_current: bool = True,
        config_source: Any = None,
        namespace: str | None = None,
        changes: Mapping[str, Any] | None = None,
        task_cls: type[BaseTask] | None = None,
        autofinalize: bool = True,
        **settings: Any,
    ) -> None:
        del autofinalize
        for name in NO_PARTS:
            if settings.pop(name, None) is not None:
                raise not_there(f"Celery({name}=...)", WAYS.get(name, "leave it out"))
        super().__init__()
        self.main = main
        self.control = Control(self)
        self._base = BaseTask if task_cls is None else task_cls
        given = {**(changes or {}), **settings}
        addresses = {"broker_url": broker, "result_backend": backend}
        given.update({name: value for name, value in addresses.items() if value is not None})
        if include is not None:
            given["include"] = [include] if isinstance(include, str) else list(include)
        if config_source is not None:
            given = {**read_object(config_source, namespace), **given}
        if given:
            self.conf.update(given)
        self._add_builtins()
        if set_as_current:
            current.set_current(self)

    # Settings

    def config_from_object(
        self,
        obj: Any,
        silent: bool = False,
        force: bool = False,
        namespace: str | None = None,
    ) -> None:
        """Read settings from an object or a module's name; with *namespace*, those with its prefix."""
        del force
        try:
            given = read_object(obj, namespace)
        except ImportError:
            if silent:
                return
            raise
        self.conf.update(given)

    def config_from_envvar(self, variable: str, silent: bool = False, force: bool = False) -> None:
        """Read settings from the module that an environment variable names."""
        name = os.environ.get(variable)
        if name:
            self.config_from_object(name, silent=silent, force=force)
        elif not silent:
            raise ImproperlyConfigured(f"the environment variable {variable} is not set")

    # Tasks

    @property
    def Task(self) -> type[BaseTask]:  # noqa: N802  # Celery's name
        """The base of its tasks."""
        return self._base

    def task(self, *args: Any, **options: Any) -> Any:
        """Declare a function as a task: `@app.task`, or with options, `@app.task(bind=True)`.

        Raises NotImplementedError for an option that is not there, DuplicateTaskError.
        """
        if args and not callable(args[0]):
            raise TypeError("argument 1 to @task() must be a callable")
        make = partial(self._make, **options)
        return make(*args) if args else make

    def gen_task_name(self, name: str, module: str) -> str:
        """Return the name of a task whose declaration has none: override it to name them otherwise."""
        return f"{self.main or module if module == '__main__' else module}.{name}"

    def _make(self, function: Callable[..., Any], **options: Any) -> BaseTask:
        options["name"] = options.get("name") or self.gen_task_name(function.__name__, function.__module__)
        task = make_task(self, self._base, function, options, self.main)
        known = self._tasks.get(str(task.name))
        if known is not None:
            if place_of(known) == place_of(task):
                # Its module was imported under two names.
                return known  # type: ignore[no-any-return]  # a registry has tasks
            raise DuplicateTaskError(
                f"task {task.name!r} is declared twice: by {place_of(known)} and by {place_of(task)}; "
                "pass another name="
            )
        return self._register(task)

    def register_task(self, task: Any) -> BaseTask:
        """Add a task of a class of your own: an instance, or the class."""
        made: BaseTask = task() if isinstance(task, type) else task
        if made.name is None:
            type(made).name = made.name = f"{type(made).__module__}.{type(made).__name__}"
        made._app = self  # noqa: SLF001  # of one layer
        made.check()
        return self._register(made)

    def _register(self, task: BaseTask) -> BaseTask:
        assert task.name is not None
        with self._lock:
            self._tasks[task.name] = task
            if self._served is not None:
                self.declared(task)
        return task

    def _add_builtins(self) -> None:
        def xmap(task: str, it: list[Any]) -> list[Any]:
            return [self.tasks[task](each) for each in it]

        def xstarmap(task: str, it: list[Any]) -> list[Any]:
            return [self.tasks[task](*each) for each in it]

        self.task(name="celery.map")(xmap)
        self.task(name="celery.starmap")(xstarmap)

        def send_callback(result: Any, callback: Any) -> None:
            canvas.signature(callback, app=self).apply_async((result,))

        self.task(name=SENDER)(send_callback)

    def autodiscover_tasks(
        self,
        packages: Iterable[str] | Callable[[], Iterable[str]] | None = None,
        related_name: str | None = "tasks",
        force: bool = False,
    ) -> None:
        """Have workers import the module *related_name* of each package; of all apps of Django's, if none."""
        self._packages.append((packages, related_name))
        if force:
            loading.discover(packages, related_name)

    # Schedules

    def add_periodic_task(
        self,
        schedule: Any,
        sig: Any,
        args: Iterable[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        name: str | None = None,
        **options: Any,
    ) -> str:
        """Have a call be sent at times; return its name. Workers make its jobs, and there is no beat."""
        call = canvas.signature(sig, args, kwargs, **options) if isinstance(sig, canvas.Part) else None
        call = call or canvas.Signature(sig, args, kwargs, options, app=self)
        key = name or repr(call)
        self._periodic[key] = schedule, call
        return key

    # Sending

    def send_task(
        self,
        name: str,
        args: Iterable[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Any:
        """Send a task by its name, which need not be declared here; return its AsyncResult."""
        return self.send(None, name, args_of(args), dict(kwargs or {}), options)

    def send(
        self,
        task: BaseTask | None,
        name: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        options: Mapping[str, Any],
    ) -> Any:
        """Send a task. *task*: None if it is not known here."""
        return send(self, task, name, args, kwargs, options)

    def send_canvas(self, part: Any) -> Any:
        """Send a call, or several that are composed."""
        return send_canvas(self, part)

    def check_queue(self, name: str, queue: str | None) -> None:
        """Raise UnknownQueueError if a task's call may not name this queue."""
        if queue is None or self.conf.task_create_missing_queues:
            return
        if queue not in self._queues() | {
            queue_name(each.queue) for each in self.tasks.values() if each.queue
        }:
            raise UnknownQueueError(f"task {name!r}: queue {queue!r} is not in task_queues")

    def run_here(
        self, task: BaseTask, args: tuple[Any, ...], kwargs: dict[str, Any], options: Mapping[str, Any]
    ) -> Any:
        """Run a task in place."""
        return run_here(self, task, args, kwargs, options)

    def run_canvas(self, part: Any) -> Any:
        """Run a call, or several that are composed, in place."""
        return run_canvas(self, part)

    def results_before(self, job_id: UUID) -> Any:
        """Return the result of what comes before a job in its workflow; None: nothing does."""
        return results_before(self, job_id)

    # Running here

    # Reading

    def AsyncResult(  # noqa: N802  # Celery's name
        self,
        id: Any,  # noqa: A002
        backend: Any = None,
        task_name: str | None = None,
        **_: Any,
    ) -> AsyncResult:
        """Return the result of a task by its id."""
        return AsyncResult(id, backend, task_name, app=self)

    def GroupResult(  # noqa: N802  # Celery's name
        self,
        id: str,  # noqa: A002
        results: Iterable[Any] = (),
        **_: Any,
    ) -> GroupResult:
        """Return the results of several tasks."""
        return GroupResult(id, list(results))

    ResultSet = staticmethod(ResultSet)

    def signature(self, *args: Any, **kwargs: Any) -> Any:
        """Return a call by the name of a task."""
        return canvas.signature(*args, **{**kwargs, "app": self})

    @property
    def current_task(self) -> Any:
        """The task that is running here; None: none is."""
        running = current.running.get()
        return None if running is None else running[0]

    current_worker_task = current_task

    @property
    def timezone(self) -> Any:
        """The time zone of times that have none."""
        return zone_of(self)

    def now(self) -> datetime:
        """Return the time in the app's time zone."""
        return datetime.now(zone_of(self))

    def set_current(self) -> None:
        """Have this be the app of `shared_task` and `current_app`."""
        current.set_current(self)

    set_default = set_current

    def finalize(self, auto: bool = False) -> None:
        """Declare the tasks that are known so far."""
        del auto
        _ = self.served

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or hasattr(type(self), name):
            return object.__getattribute__(self, name)
        raise not_there(f"app.{name}", WAYS.get(name, "use app.pgqueue, the PgQueue beneath"))

    def __repr__(self) -> str:
        return f"<Celery {self.main or '__main__'}>"


current.make_default.append(lambda: Celery("default", set_as_current=False))
