"""Celery's interface over pgqueue: change the import, and the code runs.

    from pgqueue.compat.celery import Celery

    app = Celery("tasks", broker="postgresql://localhost/app")

    @app.task
    def send_email(to: str, subject: str, body: str) -> None: ...

    send_email.delay("user@example.com", "Welcome!", "Thanks for signing up")

`pgqueue worker tasks:app` runs its tasks. What differs is in docs/reference/compat.md.
"""

from uuid import uuid4

from pgqueue.compat.celery import states
from pgqueue.compat.celery.application import Celery
from pgqueue.compat.celery.canvas import (
    Signature,
    chain,
    chord,
    chunks,
    group,
    maybe_signature,
    signature,
    subtask,
    xmap,
    xstarmap,
)
from pgqueue.compat.celery.current import Proxy, find_app
from pgqueue.compat.celery.exceptions import Ignore, Reject, Retry, SoftTimeLimitExceeded
from pgqueue.compat.celery.making import shared_task
from pgqueue.compat.celery.result import AsyncResult, EagerResult, GroupResult, ResultSet
from pgqueue.compat.celery.task import Task


def uuid() -> str:
    """Return an id for a task: pass it as task_id."""
    return str(uuid4())


current_app = Proxy("current_app", find_app)
current_task = Proxy("current_task", lambda: find_app().current_task)

__all__ = [
    "AsyncResult",
    "Celery",
    "EagerResult",
    "GroupResult",
    "Ignore",
    "Reject",
    "ResultSet",
    "Retry",
    "Signature",
    "SoftTimeLimitExceeded",
    "Task",
    "chain",
    "chord",
    "chunks",
    "current_app",
    "current_task",
    "group",
    "maybe_signature",
    "shared_task",
    "signature",
    "states",
    "subtask",
    "uuid",
    "xmap",
    "xstarmap",
]
