"""Celery's signals about tasks and workers: `@task_failure.connect`.

Those of tasks are sent where the task runs. A signal that is not here has a place to connect to, which raises
NotImplementedError with pgqueue's way.
"""

from __future__ import annotations

import inspect
import logging
import weakref
from collections.abc import Callable
from typing import Any

from pgqueue.compat.missing import not_there

logger = logging.getLogger("pgqueue.compat")

Receiver = Callable[..., Any]


class Signal:
    """A signal: receivers are called with what it says, by name, and with the sender."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._receivers: dict[object, tuple[Callable[[], Receiver | None], object]] = {}

    def connect(
        self,
        receiver: Receiver | None = None,
        *,
        sender: object = None,
        weak: bool = True,
        dispatch_uid: object = None,
        retry: bool = False,
    ) -> Any:
        """Call *receiver* each time, or each time that *sender* (a task or its name) sends it."""
        if retry:
            raise not_there(f"{self.name}.connect(retry=True)", "catch errors in the receiver")

        def connect(function: Receiver) -> Receiver:
            key = dispatch_uid if dispatch_uid is not None else (id(function), _name_of(sender))
            self._receivers[key] = _reference(function, weak=weak), sender
            return function

        return connect if receiver is None else connect(receiver)

    def disconnect(
        self, receiver: Receiver | None = None, *, sender: object = None, dispatch_uid: object = None
    ) -> bool:
        """Call *receiver* no more; return whether it was connected."""
        key = dispatch_uid if dispatch_uid is not None else (id(receiver), _name_of(sender))
        return self._receivers.pop(key, None) is not None

    @property
    def receivers(self) -> list[Receiver]:
        """Those that are connected."""
        found = (reference() for reference, _ in self._receivers.values())
        return [each for each in found if each is not None]

    def has_listeners(self, sender: object = None) -> bool:  # noqa: ARG002  # as there
        """Whether anybody is connected."""
        return bool(self._receivers)

    def send(self, sender: object, **named: Any) -> list[tuple[Receiver, Any]]:
        """Call the receivers; return what each returned. Their errors are logged."""
        answers = []
        for reference, wanted in list(self._receivers.values()):
            receiver = reference()
            if receiver is None or (wanted is not None and _name_of(wanted) != _name_of(sender)):
                continue
            try:
                answer = receiver(signal=self, sender=sender, **named)
            except Exception as error:
                logger.exception("signal %s: receiver %r raised an error; ignoring it", self.name, receiver)
                answer = error
            answers.append((receiver, answer))
        return answers

    def __repr__(self) -> str:
        return f"<Signal {self.name}>"


class MissingSignal(Signal):
    """A signal that nothing sends here."""

    def __init__(self, name: str, way: str) -> None:
        super().__init__(name)
        self._way = way

    def connect(self, receiver: Receiver | None = None, **_: Any) -> Any:
        """Raise NotImplementedError."""
        del receiver
        raise not_there(f"the signal {self.name}", self._way)


def _name_of(sender: object) -> object:
    return getattr(sender, "name", None) or sender


def _reference(function: Receiver, *, weak: bool) -> Callable[[], Receiver | None]:
    if not weak:
        return lambda: function
    if inspect.ismethod(function):
        return weakref.WeakMethod(function)
    return weakref.ref(function)


task_prerun = Signal("task_prerun")
task_postrun = Signal("task_postrun")
task_success = Signal("task_success")
task_failure = Signal("task_failure")
task_retry = Signal("task_retry")
task_rejected = MissingSignal("task_rejected", "observe DeadLettersEntered with app.pgqueue.observe(...)")
task_internal_error = MissingSignal("task_internal_error", "read the log of the worker")
task_received = MissingSignal("task_received", "observe JobsClaimed with app.pgqueue.observe(...)")
task_revoked = MissingSignal("task_revoked", "observe JobsCancelled with app.pgqueue.observe(...)")
task_unknown = MissingSignal("task_unknown", "set unknown_task_grace, or read the log of the worker")
task_sent = MissingSignal("task_sent", "observe JobsEnqueued with app.pgqueue.observe(...)")
before_task_publish = MissingSignal(
    "before_task_publish",
    "add a Middleware with `enqueue` to a PgQueue, or wrap `apply_async` in a base task",
)
after_task_publish = MissingSignal(
    "after_task_publish", "observe JobsEnqueued with app.pgqueue.observe(...), or wrap `apply_async`"
)
worker_init = Signal("worker_init")
worker_ready = Signal("worker_ready")
worker_shutting_down = MissingSignal("worker_shutting_down", "connect to worker_shutdown")
worker_shutdown = Signal("worker_shutdown")
worker_process_init = Signal("worker_process_init")
worker_process_shutdown = MissingSignal(
    "worker_process_shutdown", "declare a lifespan: `@app.pgqueue.lifespan`, the part behind its `yield`"
)
worker_before_create_process = MissingSignal("worker_before_create_process", "connect to worker_process_init")
celeryd_init = MissingSignal("celeryd_init", "connect to worker_init")
celeryd_after_setup = MissingSignal("celeryd_after_setup", "connect to worker_init")
beat_init = MissingSignal("beat_init", "connect to worker_init: workers tick schedules, and there is no beat")
beat_embedded_init = MissingSignal("beat_embedded_init", "connect to worker_init: there is no beat")
heartbeat_sent = MissingSignal("heartbeat_sent", "read `pgqueue workers`, or the metrics")
setup_logging = MissingSignal(
    "setup_logging", "configure logging where your module is imported: pgqueue leaves it as it finds it"
)
after_setup_logger = MissingSignal("after_setup_logger", "configure logging where your module is imported")
after_setup_task_logger = MissingSignal(
    "after_setup_task_logger", "configure logging where your module is imported"
)
import_modules = MissingSignal("import_modules", "pass include=[...] to Celery(...)")
user_preload_options = MissingSignal(
    "user_preload_options", "set environment variables: see `pgqueue worker`"
)
