"""Django: a backend of its Tasks framework, in the database that the project has.

    INSTALLED_APPS = [..., "pgqueue.integrations.django"]
    TASKS = {"default": {"BACKEND": "pgqueue.integrations.django.PgQueueBackend"}}

Enqueueing and reading results are statements on Django's own connection. So a task that is enqueued in
`transaction.atomic()` exists if and only if that commits, processes that serve requests keep no other
connection and no event loop, and `TestCase` rolls back what it enqueues. `manage.py migrate` makes the
schema, and `manage.py pgqueue_worker` runs the tasks.
"""

from pgqueue.integrations.django.backend import PgQueueBackend
from pgqueue.integrations.django.running import queue

__all__ = ["PgQueueBackend", "queue"]
