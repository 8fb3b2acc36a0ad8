"""`app.control`: revoking tasks, and what is known of workers. The command line has the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, ClassVar, Final
from uuid import UUID

from pgqueue import JobNotFoundError, JobStatus
from pgqueue.compat.missing import Lacking, not_there

MOST: Final = 1000
"""Running tasks of a worker that are told."""


class Control:
    """Acts on tasks that were sent."""

    def __init__(self, app: Any) -> None:
        self._app = app

    def revoke(
        self,
        task_id: str | Iterable[str],
        destination: Any = None,
        terminate: bool = False,
        signal: Any = None,
        **_: Any,
    ) -> None:
        """Cancel tasks. One that runs goes on, unless *terminate* is set: then it is asked to stop.

        A task that runs in a child process is killed if it does not stop. Ids that no job has are ignored.
        """
        if destination is not None:
            raise not_there("revoke(destination=...)", "leave it out: a job is in one place")
        if signal not in (None, "SIGTERM", "TERM", "SIGKILL", "KILL", "SIGUSR1"):
            raise not_there(f"revoke(signal={signal!r})", "leave it out")
        for each in [task_id] if isinstance(task_id, str | UUID) else task_id:
            self._revoke(str(each), terminate=terminate)

    def _revoke(self, task_id: str, *, terminate: bool) -> None:
        client = self._app.client
        try:
            job_id = UUID(task_id)
            if terminate or client.get(job_id).status is not JobStatus.RUNNING:
                client.cancel(job_id, reason="revoked")
        except (JobNotFoundError, ValueError):
            # Celery keeps a list of revoked ids, and asks for none of them.
            return

    def inspect(self, destination: Any = None, timeout: float = 1.0, **_: Any) -> Any:
        """Return what tells of the workers that live, or of those whose names *destination* lists."""
        del timeout
        return Inspect(self._app, destination)

    def ping(self, destination: Any = None, timeout: float = 1.0, **_: Any) -> list[dict[str, Any]]:
        """Return an answer of each worker that lives. None is asked: that their leases hold is known."""
        del timeout
        return [{name: said} for name, said in (Inspect(self._app, destination).ping() or {}).items()]

    def terminate(self, task_id: str | Iterable[str], **how: Any) -> None:
        """Cancel tasks, also those that run."""
        self.revoke(task_id, terminate=True, **how)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        raise not_there(f"app.control.{name}", _WAYS.get(name, "use the `pgqueue` command, or the dashboard"))


_WAYS = {
    "add_consumer": "run `pgqueue worker --queues a,b`",
    "autoscale": "run more workers; KEDA can scale them by the queue's depth",
    "broadcast": "use the `pgqueue` command, or the dashboard",
    "cancel_consumer": "run `pgqueue queues pause QUEUE`",
    "discard_all": "run `pgqueue queues purge QUEUE`",
    "pool_grow": "run `pgqueue worker --concurrency N`",
    "pool_shrink": "run `pgqueue worker --concurrency N`",
    "purge": "run `pgqueue queues purge QUEUE`",
    "rate_limit": "run `pgqueue limits set`",
    "shutdown": "send the workers SIGTERM",
    "time_limit": "run `pgqueue configure TASK --timeout SECONDS`",
}


class Inspect(Lacking):
    """Tells of workers by their names, as far as the database knows; None if no worker lives."""

    lacking = "use `pgqueue workers`, `pgqueue top`, or app.pgqueue's own methods"
    ways: ClassVar[Mapping[str, str]] = {
        "conf": "read app.conf where the worker runs",
        "query_task": "use AsyncResult(id), or `pgqueue job ID`",
        "report": "use `pgqueue workers --json`",
        "reserved": "use `pgqueue jobs --status pending`",
        "revoked": "use `pgqueue jobs --status cancelled`",
        "scheduled": "use `pgqueue jobs --status scheduled`",
    }

    def __init__(self, app: Any, destination: Any = None) -> None:
        self.app = app
        self.destination = [destination] if isinstance(destination, str) else destination

    def _of_each(self, tell: Callable[[Any], Any]) -> dict[str, Any] | None:
        named = self.destination
        found = {
            worker.name: tell(worker)
            for worker in self.app.client.list_workers(jobs=MOST)
            if worker.is_alive and (named is None or worker.name in named)
        }
        return found or None

    def ping(self, destination: Any = None) -> dict[str, Any] | None:
        """Return which workers live."""
        if destination is not None:
            return Inspect(self.app, destination).ping()
        return self._of_each(lambda _: {"ok": "pong"})

    def active(self, safe: Any = None) -> dict[str, Any] | None:
        """Return the tasks that are running, the longest first."""
        del safe
        return self._of_each(lambda worker: [_running(worker, each) for each in worker.jobs])

    def stats(self) -> dict[str, Any] | None:
        """Return what is known of the processes."""
        return self._of_each(_stats)

    def registered(self, *items: str) -> dict[str, Any] | None:
        """Return the names of the tasks that workers declare."""
        if items:
            raise not_there("inspect().registered(...) with attributes", "read them from app.tasks")
        return self._of_each(lambda worker: sorted(worker.tasks or ()))

    registered_tasks = registered

    def active_queues(self) -> dict[str, Any] | None:
        """Return the queues that workers serve."""
        return self._of_each(lambda worker: [{"name": each} for each in worker.queues])


def _running(worker: Any, job: Any) -> dict[str, Any]:
    return {
        "id": str(job.job_id),
        "name": job.task,
        "type": job.task,
        "hostname": worker.name,
        "time_start": job.started_at.timestamp(),
        "delivery_info": {"exchange": "", "routing_key": job.queue},
        "worker_pid": worker.pid,
    }


def _stats(worker: Any) -> dict[str, Any]:
    return {
        "pid": worker.pid,
        "uptime": max(0, int((datetime.now(UTC) - worker.started_at).total_seconds())),
        "pool": {"max-concurrency": worker.slots},
    }
