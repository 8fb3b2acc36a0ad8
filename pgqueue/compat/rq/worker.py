"""`Worker`: runs the jobs of queues, one at a time, in this process."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final, NoReturn
from uuid import UUID

from pgqueue import Job as Record
from pgqueue import JobStatus as Status
from pgqueue.blocking import BlockingPgQueue, BlockingWorker
from pgqueue.compat import Lacking, not_there
from pgqueue.compat.rq.connections import Redis, connection_of
from pgqueue.compat.rq.queue import Queue

BURST_PAUSE: Final = 0.05
LOOKS_IN_VAIN: Final = 2
"""So many looks in a row find nothing before a burst is over: a claim may be under way during one."""
PAGES: Final = 10
"""Pages of a queue's live jobs among which one is looked for that could run now."""
STANDSTILL: Final = 5.0
"""Seconds without a change after which a burst is over: the jobs that are left this worker cannot run."""
RANKS: Final = 4
"""Queues further behind are equals."""
SHARE: Final = 10
"""How many jobs a queue starts for one of the next queue, while both have a backlog."""

_LISTED: Final = "run `pgqueue workers`"


class Worker(Lacking):
    """Runs the jobs of *queues*, one at a time. `pgqueue worker module:queue` is the command that does.

    Queues that come first start ten jobs for one of the next. Jobs are run in threads, and not in child
    processes.
    """

    lacking = "run `pgqueue worker`, or use pgq.worker(...), which has pgqueue's options"

    def __init__(
        self,
        queues: Queue | str | Iterable[Queue | str],
        name: str | None = None,
        *,
        connection: Redis | None = None,
        **options: object,
    ) -> None:
        if options:
            raise not_there(f"Worker({', '.join(options)}=)", "pgq.worker(...) has pgqueue's options")
        given = [queues] if isinstance(queues, Queue | str) else list(queues)
        self.name = name
        of_queues = [each.connection for each in given if isinstance(each, Queue)]
        self.connection = connection_of(connection or next(iter(of_queues), None), "Worker")
        self.queues = [each if isinstance(each, Queue) else Queue(each, self.connection) for each in given]

    @classmethod
    def all(cls, *_: object, **__: object) -> NoReturn:
        """Raise NotImplementedError."""
        raise not_there(f"{cls.__name__}.all", _LISTED)

    @classmethod
    def count(cls, *_: object, **__: object) -> NoReturn:
        """Raise NotImplementedError."""
        raise not_there(f"{cls.__name__}.count", _LISTED)

    @classmethod
    def find_by_key(cls, *_: object, **__: object) -> NoReturn:
        """Raise NotImplementedError."""
        raise not_there(f"{cls.__name__}.find_by_key", _LISTED)

    def queue_names(self) -> list[str]:
        """Return the names of its queues."""
        return [each.name for each in self.queues]

    def work(
        self, burst: bool = False, max_jobs: int | None = None, with_scheduler: bool = True, **options: Any
    ) -> bool:
        """Run jobs until SIGINT or SIGTERM, or, with *burst*, until none is left that could run now.

        Scheduled jobs start when their time has come, with or without *with_scheduler*. Returns whether the
        worker has stopped without an error.
        """
        del with_scheduler
        for name in ("logging_level", "date_format", "log_format"):
            options.pop(name, None)
        if max_jobs is not None or options:
            raise not_there(
                "Worker.work(max_jobs=, ...)",
                "start `pgqueue worker --max-jobs N`, which has other options, too",
            )
        pgq, stopped = self.connection.__pgqueue__(), threading.Event()
        names = self.queue_names()
        most = min(len(names), RANKS) - 1
        weights = {name: SHARE ** max(0, most - place) for place, name in enumerate(names)} if most else None
        with (
            _signals(stopped),
            BlockingPgQueue(pgq) as queue,
            queue.worker(queues=names, concurrency=1, weights=weights, name=self.name) as worker,
        ):
            if burst:
                self._empty(queue, worker, stopped)
            else:
                stopped.wait()
        return True

    def _empty(self, queue: BlockingPgQueue, worker: BlockingWorker, stopped: threading.Event) -> None:
        in_vain, before, changed_at = 0, set[UUID](), time.monotonic()
        while in_vain < LOOKS_IN_VAIN and not stopped.is_set():
            time.sleep(BURST_PAUSE)
            left = {job for each in self.queue_names() for job in _work_in(queue, each, worker.name)}
            in_vain = 0 if left or worker.running else in_vain + 1
            if left != before or worker.running:
                before, changed_at = left, time.monotonic()
            elif time.monotonic() - changed_at > STANDSTILL:
                # They are paused, or no function of the user's own modules.
                return


SimpleWorker = Worker


def _work_in(queue: BlockingPgQueue, name: str, worker: str) -> set[UUID]:
    """Return jobs that run in this worker, or could: that are pending, or whose time has come.

    Asked for at once: a job that is retried passes through all three.
    """
    cursor = None
    for _ in range(PAGES):
        page = queue.jobs(status=("pending", "running", "scheduled"), queue=name, limit=1000, cursor=cursor)
        if found := {each.id for each in page.jobs if _is_work(each, worker)}:
            return found
        cursor = page.cursor
        if cursor is None:
            break
    return set()


def _is_work(job: Record, worker: str) -> bool:
    if job.status is Status.RUNNING:
        return job.worker == worker
    return job.next_run_at is None or job.next_run_at <= job.read_at


@contextmanager
def _signals(stopped: threading.Event) -> Iterator[None]:
    """Have SIGINT and SIGTERM set *stopped* inside the block, where this is the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {each: signal.signal(each, lambda *_: stopped.set()) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
