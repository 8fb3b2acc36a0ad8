"""Background jobs for asyncio programs, with PostgreSQL as the only server."""

from pgqueue.app import PgQueue
from pgqueue.context import JobContext, current_job
from pgqueue.control import Reject, Retry, Snooze
from pgqueue.errors import (
    CodecError,
    ConfigurationError,
    DatabaseUnavailableError,
    DuplicateJobError,
    DuplicateTaskError,
    InvalidArgumentsError,
    InvalidOptionError,
    InvalidTaskError,
    JobCancelled,
    JobDidNotSucceed,
    JobExpired,
    JobFailed,
    JobNotFoundError,
    LeaseLostError,
    NotOpenError,
    PayloadTooLargeError,
    PgQueueError,
    ResultTimeoutError,
    SchemaError,
    UnknownQueueError,
    UnknownTaskError,
)
from pgqueue.jobs import Job, JobError, JobStatus
from pgqueue.tasks import JobHandle, Signature, Task
from pgqueue.worker import Worker

__version__ = "0.1.0"

__all__ = [
    "CodecError",
    "ConfigurationError",
    "DatabaseUnavailableError",
    "DuplicateJobError",
    "DuplicateTaskError",
    "InvalidArgumentsError",
    "InvalidOptionError",
    "InvalidTaskError",
    "Job",
    "JobCancelled",
    "JobContext",
    "JobDidNotSucceed",
    "JobError",
    "JobExpired",
    "JobFailed",
    "JobHandle",
    "JobNotFoundError",
    "JobStatus",
    "LeaseLostError",
    "NotOpenError",
    "PayloadTooLargeError",
    "PgQueue",
    "PgQueueError",
    "Reject",
    "ResultTimeoutError",
    "Retry",
    "SchemaError",
    "Signature",
    "Snooze",
    "Task",
    "UnknownQueueError",
    "UnknownTaskError",
    "Worker",
    "current_job",
]
