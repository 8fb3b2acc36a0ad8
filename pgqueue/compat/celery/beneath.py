"""What is beneath an app: the PgQueue that workers serve, and the client that sends."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from functools import partial
from typing import Any, NoReturn, Self

from pgqueue import ConfigurationError, PgQueue
from pgqueue.blocking import BlockingPgQueue
from pgqueue.compat.addresses import read_addresses
from pgqueue.compat.celery import canvas, current, loading
from pgqueue.compat.celery.conf import FROZEN, Settings
from pgqueue.compat.celery.declaring import Ends, declare, tell_of_death
from pgqueue.compat.celery.exceptions import NotRegistered
from pgqueue.compat.celery.sending import queue_name, queues_in
from pgqueue.compat.celery.signals import MissingSignal, Signal
from pgqueue.compat.celery.task import Task
from pgqueue.compat.clients import connected, disconnect


class Registry(dict[str, Any]):
    """Tasks by their names."""

    def __missing__(self, name: str) -> NoReturn:
        raise NotRegistered(name)


class Beneath:
    """The settings and the tasks of an app, and the two PgQueues that are made of them."""

    def __init__(self) -> None:
        self.conf = Settings(self._change)
        self.on_configure = self.on_after_configure = Signal("on_after_configure")
        self.on_after_finalize = Signal("on_after_finalize")
        self.on_after_fork = MissingSignal("on_after_fork", "leave it out: a child opens a client of its own")
        self._lock = threading.RLock()
        self._dsn: str | None = None
        self._tasks = Registry()
        self._declared: dict[str, Any] = {}
        self._sent_by: PgQueue | None = None
        self._sent: dict[str, Any] = {}
        self._served: PgQueue | None = None
        self._is_loaded = False
        self._packages: list[tuple[Any, str | None]] = []
        self._periodic: dict[str, tuple[Any, canvas.Signature]] = {}

    def _change(self, given: Mapping[str, Any]) -> None:
        """Take note of settings that are about to change. Raises ConfigurationError."""
        if self._served is not None:
            for name, value in given.items():
                if name in FROZEN and value != self.conf[name]:
                    raise ConfigurationError(
                        f"{name} was set after the app was used, when its tasks are declared; set it before"
                    )
        if "broker_url" in given or "result_backend" in given:
            named = {"broker": "broker_url", "backend": "result_backend"}
            dsn = read_addresses({what: given.get(name, self.conf[name]) for what, name in named.items()})
            if self._served is not None:
                self._served.dsn = dsn
            self._dsn = dsn

    @property
    def tasks(self) -> Registry:
        """Its tasks by name, also those of `shared_task`. Modules of `include` may not be imported yet."""
        for name, make in list(current.shared.items()):
            if name not in self._tasks:
                self._tasks[name] = make(self)
        return self._tasks

    @property
    def served(self) -> PgQueue:
        """The PgQueue of its workers, with the tasks that are known so far."""
        with self._lock:
            if self._served is None:
                pgq = PgQueue(self._dsn, **self.conf.pgqueue)
                pgq.middleware(Ends(self))
                pgq.on_dead(partial(tell_of_death, self))
                for name in sorted(self._queues()):
                    pgq.queue(name)
                self._served = pgq
                for task in list(self.tasks.values()):
                    self.declared(task)
            return self._served

    def declared(self, task: Task) -> Any:
        """Return *task* as a task of its PgQueue."""
        with self._lock:
            served = self.served
            assert task.name is not None
            if task.name not in self._declared:
                self._declared[task.name] = declare(self, served, task)
            return self._declared[task.name]

    def sent(self, task: Task) -> Any:
        """Return *task* as a task of the client: a workflow is of one PgQueue."""
        client = self.client.behind
        with self._lock:
            if self._sent_by is not client:
                self._sent_by, self._sent = client, {}
            assert task.name is not None
            if task.name not in self._sent:
                self._sent[task.name] = declare(self, client, task)
            return self._sent[task.name]

    def _queues(self) -> set[str]:
        given = self.conf.task_queues or ()
        named = given.keys() if isinstance(given, Mapping) else map(queue_name, given)
        return {self.conf.task_default_queue, *named, *queues_in(self.conf.task_routes)}

    @property
    def pgqueue(self) -> PgQueue:
        """The PgQueue beneath, with all tasks and schedules: for the dashboard, and for tasks of pgqueue's.

        Modules of `include` are imported by now. Not open.
        """
        with self._lock:
            if not self._is_loaded:
                # Modules that are imported now may ask for it, too.
                self._is_loaded = True
                try:
                    self._load()
                except BaseException:
                    self._is_loaded = False
                    raise
            return self.served

    def _load(self) -> None:
        loading.import_modules((*self.conf.include, *self.conf.imports))
        for packages, related_name in self._packages:
            loading.discover(packages, related_name)
        for signal in (self.on_after_configure, self.on_after_finalize):
            for _, answer in signal.send(sender=self):
                # A schedule that is not declared would never be noticed.
                if isinstance(answer, Exception):
                    raise answer
        entries = {name: loading.entry_of(self, each) for name, each in self.conf.beat_schedule.items()}
        for name, (when, call) in {**entries, **self._periodic}.items():
            loading.schedule(self, name, when, call)

    def __pgqueue__(self) -> PgQueue:
        """Return the PgQueue beneath, for the command line."""
        return self.pgqueue

    @property
    def client(self) -> BlockingPgQueue:
        """An open client of the database, which sends tasks and reads results from any code."""
        return connected(self.served, self.conf.pgqueue)

    def close(self) -> None:
        """Close the client. The next call opens another one."""
        if self._served is not None:
            disconnect(self._served)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
