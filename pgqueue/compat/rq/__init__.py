"""RQ's interface over a PgQueue: change `rq` and `redis` in the imports to `pgqueue.compat.rq`.

    from pgqueue.compat.rq import Queue, Redis

    queue = Queue(connection=Redis())
    job = queue.enqueue(send_email, "user@example.com", "Subject", "Body")

`pgqueue worker module:queue` runs the jobs, or, without a module of yours,
`pgqueue worker pgqueue.compat.rq:app --queues high,default`. docs/how-to/from-rq.md says what differs.
"""

from pgqueue.compat.rq.absent import RateLimit, Repeat, SpawnWorker, Webhook
from pgqueue.compat.rq.calls import EnqueueData
from pgqueue.compat.rq.command import send_stop_job_command
from pgqueue.compat.rq.connections import Redis, StrictRedis
from pgqueue.compat.rq.exceptions import (
    DuplicateJobError,
    InvalidJobOperation,
    JobTimeoutException,
    NoSuchJobError,
)
from pgqueue.compat.rq.functions import cancel_job, get_current_job, requeue_job
from pgqueue.compat.rq.group import Group
from pgqueue.compat.rq.headers import Callback
from pgqueue.compat.rq.job import Dependency, Job
from pgqueue.compat.rq.queue import Queue, app
from pgqueue.compat.rq.results import Result
from pgqueue.compat.rq.retry import Retry
from pgqueue.compat.rq.statuses import JobStatus
from pgqueue.compat.rq.worker import SimpleWorker, Worker

__all__ = [
    "Callback",
    "Dependency",
    "DuplicateJobError",
    "EnqueueData",
    "Group",
    "InvalidJobOperation",
    "Job",
    "JobStatus",
    "JobTimeoutException",
    "NoSuchJobError",
    "Queue",
    "RateLimit",
    "Redis",
    "Repeat",
    "Result",
    "Retry",
    "SimpleWorker",
    "SpawnWorker",
    "StrictRedis",
    "Webhook",
    "Worker",
    "app",
    "cancel_job",
    "get_current_job",
    "requeue_job",
    "send_stop_job_command",
]
