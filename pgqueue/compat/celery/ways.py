"""What an app of Celery's has and this one has not, and what to do instead."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

NO_PARTS: Final = ("loader", "amqp", "events", "log", "control", "tasks", "fixups")
WAYS: Final[Mapping[str, str]] = {
    "amqp": "use app.pgqueue",
    "backend": "use app.AsyncResult(id), or app.pgqueue",
    "broker_connection": "use app.pgqueue",
    "bugreport": "run `pgqueue check`",
    "connection": "use app.pgqueue",
    "connection_for_read": "use app.pgqueue",
    "connection_for_write": "use app.pgqueue",
    "events": "observe events: app.pgqueue.observe(...)",
    "loader": "pass include=[...], or call app.autodiscover_tasks([...])",
    "log": "configure logging where your module is imported",
    "pool": "use app.pgqueue",
    "producer_pool": "use app.pgqueue",
    "start": "run `pgqueue worker MODULE:APP`",
    "user_options": "set environment variables: see `pgqueue worker`",
    "worker_main": "run `pgqueue worker MODULE:APP`",
    "Beat": "workers tick schedules: run `pgqueue worker MODULE:APP`",
    "Worker": "run `pgqueue worker MODULE:APP`",
}
