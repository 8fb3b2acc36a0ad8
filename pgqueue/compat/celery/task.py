"""Celery's Task: a function with options, which is called, sent, retried and composed."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any, ClassVar, Final, NoReturn

from pgqueue.compat.celery import canvas, current
from pgqueue.compat.celery.errors import META, STATE
from pgqueue.compat.celery.exceptions import (
    Ignore,
    MaxRetriesExceededError,
    OperationalError,
    Reject,
    Retry,
)
from pgqueue.compat.celery.hooks import Hooks
from pgqueue.compat.celery.request import Request
from pgqueue.compat.celery.running import set_plain_call
from pgqueue.compat.celery.sending import args_of, aware
from pgqueue.compat.celery.task_options import check_options
from pgqueue.compat.missing import Lacking, not_there

_NO_REQUEST: Final = Request()


class Task(Lacking, Hooks):
    """A task. Calling it runs its function here; `delay` and `apply_async` have a worker run it.

    Made by `@app.task`, or a class of your own with `run`, whose instance is given to `app.register_task`.
    """

    ways: ClassVar[Mapping[str, str]] = {
        "acks_on_failure": "use autoretry_for=(...): a failed attempt is retried or has failed",
        "acks_on_timeout": "use autoretry_for=(...): a failed attempt is retried or has failed",
        "add_around": "override __call__ in a base task",
        "annotate": "set the options on the task",
        "backend": "use app.AsyncResult(id), or app.pgqueue",
        "bind": "leave it out: app.task and app.register_task do it",
        "on_bound": "do it where the app is made, or connect to app.on_after_finalize",
        "on_replace": "declare an async task with `@app.pgqueue.task`, and `return await ctx.run(...)`",
        "resultrepr_maxsize": "leave it out: pgqueue logs no results",
        "retry_on_worker_lost": "set acks_late and reject_on_worker_lost",
        "send_events": "observe events: app.pgqueue.observe(...)",
        "shadow_name": "declare the task with another name=",
        "store_errors_even_if_ignored": "leave it out: errors are kept always",
        "trail": "leave it out: walk from the last result by .parent",
        "request_stack": "read self.request",
        "pop_request": "read self.request",
        "start_strategy": "put the code around the task into a Middleware: `app.pgqueue.middleware(...)`",
        "from_config": "set the options on the task",
    }

    name: str | None = None
    max_retries: int | None = 3
    default_retry_delay: float = 180
    autoretry_for: ClassVar[Any] = ()
    dont_autoretry_for: ClassVar[Any] = ()
    retry_backoff: Any = False
    retry_backoff_max: int = 600
    retry_jitter: bool = True
    retry_kwargs: ClassVar[Mapping[str, Any]] = {}
    acks_late: bool | None = None
    acks_on_failure_or_timeout: bool | None = None
    reject_on_worker_lost: bool | None = None
    time_limit: float | timedelta | None = None
    soft_time_limit: float | timedelta | None = None
    rate_limit: str | float | None = None
    ignore_result: bool | None = None
    track_started: bool | None = None
    throws: ClassVar[Any] = ()
    queue: Any = None
    priority: int | None = None
    expires: Any = None
    serializer: str | None = None
    typing: bool = True
    abstract: bool = True

    MaxRetriesExceededError = MaxRetriesExceededError
    OperationalError = OperationalError
    Retry = Retry
    Ignore = Ignore
    Reject = Reject

    # What `app.task` and `register_task` set
    _app: Any = None

    def run(self, *args: Any, **kwargs: Any) -> Any:
        """Do what the task is for."""
        raise NotImplementedError("Tasks must define the run method.")

    # What it is

    @property
    def app(self) -> Any:
        """The app that it belongs to: that which has declared it, or the current one."""
        return self._app if self._app is not None else current.find_app()

    @property
    def function(self) -> Callable[..., Any]:
        """The function that it was made of."""
        function: Callable[..., Any] = inspect.unwrap(self.run)
        return function

    @property
    def __name__(self) -> str:
        """The name of its function."""
        return type(self).__qualname__.rpartition(".")[2]

    @property
    def module(self) -> str:
        """The module that declares it."""
        return str(type(self).__module__)

    @property
    def parameters(self) -> inspect.Signature:
        """Its parameters, without `self`. Their types are not checked, as in Celery."""
        signature = inspect.signature(self.run)
        bare = [each.replace(annotation=inspect.Parameter.empty) for each in signature.parameters.values()]
        return signature.replace(parameters=bare, return_annotation=inspect.Signature.empty)

    @property
    def takes_error(self) -> bool:
        """Whether, as `link_error`, it takes (request, exc, traceback) and not an id alone."""
        kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        return sum(each.kind in kinds for each in self.parameters.parameters.values()) > 1

    @property
    def definition(self) -> Any:
        """Its definition for pgqueue: by it, child processes of workers find it in its module."""
        return self.app.declared(self).definition

    @property
    def host(self) -> Any:
        """The PgQueue that declares it."""
        return self.app.declared(self).host

    @property
    def hard_limit(self) -> float | None:
        """Its hard time limit in seconds, or the app's."""
        return _seconds(self.time_limit, self.app.conf.task_time_limit)

    @property
    def soft_limit(self) -> float | None:
        """Its soft time limit in seconds, or the app's; None also where the hard limit comes first."""
        soft, hard = _seconds(self.soft_time_limit, self.app.conf.task_soft_time_limit), self.hard_limit
        both_own = self.soft_time_limit is not None and self.time_limit is not None
        return None if soft is not None and hard is not None and soft >= hard and not both_own else soft

    @property
    def is_isolated(self) -> bool:
        """Whether it runs in a child process: one with a limit, which is to stop it wherever it is.

        A function that is inside another one cannot be found by a child process, and runs in a thread.
        """
        has_limit = self.hard_limit is not None or self.soft_limit is not None
        return has_limit and "<locals>" not in self.function.__qualname__

    @property
    def is_acked_late(self) -> bool:
        """Whether it runs again if its worker is lost."""
        return bool(self.app.conf.task_acks_late if self.acks_late is None else self.acks_late)

    @property
    def returns_when_lost(self) -> bool:
        """Whether it runs again if its child process dies."""
        own = self.reject_on_worker_lost
        return bool(self.app.conf.task_reject_on_worker_lost if own is None else own)

    @property
    def ignores_result(self) -> bool:
        """Whether its result is not kept."""
        own = self.ignore_result
        return bool(self.app.conf.task_ignore_result if own is None else own)

    def check(self) -> None:
        """Raise NotImplementedError for an option that is not there."""
        check_options(self)

    # The call that is running

    @property
    def request(self) -> Request:
        """What is known of the call that is running."""
        running = current.running.get()
        return _NO_REQUEST if running is None else running[1]

    def retry(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        exc: BaseException | None = None,
        throw: bool = True,
        eta: Any = None,
        countdown: float | None = None,
        max_retries: int | None = None,
        **options: Any,
    ) -> Any:
        """Have the task run again, under the same id: after *countdown* seconds, or at *eta*.

        Without them, after `default_retry_delay`. Raises Retry; *exc* or MaxRetriesExceededError if it was
        retried `max_retries` times already. With *throw* false it returns Retry: the task goes on, and is
        retried when it has returned.
        """
        request, handled = self.request, sys.exception()
        if request.called_directly:
            raise (exc or handled or Retry("Task can be retried")) from (None if exc is handled else handled)
        for option in options:
            raise not_there(
                f"task {self.name}: {option}= of self.retry()",
                "leave it out: a retry keeps its queue, its priority and its limits",
            )
        limit = self.max_retries if max_retries is None else max_retries
        if limit is not None and request.retries >= limit:
            if exc is not None:
                raise exc
            raise MaxRetriesExceededError(
                f"Can't retry {self.name}[{request.id}] args:{tuple(request.args or ())} "
                f"kwargs:{request.kwargs}",
                task_args=request.args or (),
                task_kwargs=request.kwargs,
            )
        when = aware(self.app, eta) if eta is not None else countdown
        other = args is not None or kwargs is not None
        signal = Retry(
            exc=exc or (handled if isinstance(handled, Exception) else None),
            when=self.default_retry_delay if when is None else when,
            is_eager=request.is_eager,
            max_retries=limit,
            args=canvas.pack_all(request.args if args is None else args) if other else None,
            kwargs=canvas.pack_named(request.kwargs if kwargs is None else kwargs) if other else None,
        )
        if not throw:
            request.wanted = signal
            return signal
        raise signal from exc

    def update_state(self, task_id: Any = None, state: str | None = None, meta: Any = None, **_: Any) -> None:
        """Tell how far the task is: `AsyncResult.state` and `.info` are these while it runs."""
        request = self.request
        if task_id is not None and str(task_id) != request.id:
            raise not_there("update_state(task_id=...)", "have the task itself tell its state")
        if request.context is None:
            return
        named = meta if isinstance(meta, Mapping) else {}
        done, total = (named.get(name) for name in ("current", "total"))
        counts = isinstance(done, int | float) and isinstance(total, int | float)
        request.context.progress(
            done if counts else 0,  # type: ignore[arg-type]  # they are numbers
            total if counts else None,
            {STATE: state, META: canvas.pack_one(meta)},
        )

    def replace(self, *_: Any, **__: Any) -> NoReturn:
        """Not there."""
        raise not_there(
            "self.replace()",
            "declare an async task with `@app.pgqueue.task`, and `return await ctx.run(...)`",
        )

    def add_to_chord(self, *_: Any, **__: Any) -> NoReturn:
        """Not there."""
        raise not_there(
            "self.add_to_chord()", "declare an async task with `@app.pgqueue.task`, and `await ctx.add(...)`"
        )

    add_trail = send_event = push_request = subtask_from_request = signature_from_request = add_to_chord

    # Calling

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the function here."""
        running = current.running.get()
        if running is not None and running[0] is self and running[1].is_entering:
            # By a `__call__` that a base overrides, in a worker: it is the same call.
            running[1].is_entering = False
            return self.run(*args, **kwargs)
        token = current.running.set((self, Request(task=self.name, args=args, kwargs=kwargs)))
        try:
            return self.run(*args, **kwargs)
        finally:
            current.running.reset(token)

    def delay(self, *args: Any, **kwargs: Any) -> Any:
        """Send the task; return its AsyncResult."""
        return self.apply_async(args, kwargs)

    def apply_async(
        self, args: Iterable[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> Any:
        """Send the task with options: countdown, eta, expires, queue, priority, task_id, link, and so on.

        Raises TypeError for arguments that the task does not take, or JSON has no form for;
        NotImplementedError for options that are not there; what enqueueing raises.
        """
        return self.app.send(self, self.name, args_of(args), dict(kwargs or {}), options)

    def apply(
        self, args: Iterable[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> Any:
        """Run the task here, with its retries, and return an EagerResult."""
        return self.app.run_here(self, tuple(args or ()), dict(kwargs or {}), options)

    def AsyncResult(self, task_id: Any, **_: Any) -> Any:  # noqa: N802  # Celery's name
        """Return the result of a task by its id."""
        return self.app.AsyncResult(task_id, task_name=self.name)

    # Composing

    def signature(
        self, args: Iterable[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> canvas.Signature:
        """Return a call of this task as a value."""
        immutable = bool(options.pop("immutable", False))
        given = {**options.pop("options", {}), **options}
        return canvas.Signature(self.name, args, kwargs, given, immutable=immutable, app=self._app)

    subtask = signature

    def s(self, *args: Any, **kwargs: Any) -> canvas.Signature:
        """Return a call of this task as a value, which takes the result before it first."""
        return self.signature(args, kwargs)

    def si(self, *args: Any, **kwargs: Any) -> canvas.Signature:
        """Return a call of this task as a value, which takes no result."""
        return self.signature(args, kwargs, immutable=True)

    def map(self, it: Iterable[Any]) -> canvas.Signature:
        """Return one task that calls this one with each item, one after the other."""
        return canvas.xmap(self, it)

    def starmap(self, it: Iterable[Any]) -> canvas.Signature:
        """Return one task that calls this one with each item's arguments, one after the other."""
        return canvas.xstarmap(self, it)

    def chunks(self, it: Iterable[Any], n: int) -> canvas.chunks:
        """Return tasks that each call this one with *n* items' arguments, one after the other."""
        return canvas.chunks(self, it, n)

    def __repr__(self) -> str:
        return f"<@task: {self.name}>"


def _seconds(own: Any, of_app: Any) -> float | None:
    value = of_app if own is None else own
    return value.total_seconds() if isinstance(value, timedelta) else value


set_plain_call(Task.__call__)
