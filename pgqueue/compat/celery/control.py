"""`app.control`: revoking tasks. Operators have the command line and the dashboard for the rest."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from uuid import UUID

from pgqueue import JobNotFoundError, JobStatus
from pgqueue.compat.missing import not_there


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
    "inspect": "use `pgqueue top`, `pgqueue workers`, `pgqueue jobs`, or app.pgqueue's own methods",
    "ping": "use `pgqueue workers`",
    "pool_grow": "run `pgqueue worker --concurrency N`",
    "pool_shrink": "run `pgqueue worker --concurrency N`",
    "purge": "run `pgqueue queues purge QUEUE`",
    "rate_limit": "run `pgqueue limits set`",
    "shutdown": "send the workers SIGTERM",
    "time_limit": "run `pgqueue configure TASK --timeout SECONDS`",
}
