"""Background jobs for asyncio programs, with PostgreSQL as the only server."""

from pgqueue.app import PgQueue
from pgqueue.context import JobContext, current_job
from pgqueue.control import Reject, Retry, Snooze
from pgqueue.dead_letters import (
    DeadLetter,
    DeadLetterDetails,
    DeadLetterFilter,
    DeadLetterGroup,
    DeadLetterPage,
    RedriveProgress,
)
from pgqueue.errors import (
    CodecError,
    ConfigurationError,
    DatabaseUnavailableError,
    DuplicateJobError,
    DuplicateTaskError,
    InvalidArgumentsError,
    InvalidFilterError,
    InvalidOptionError,
    InvalidTaskError,
    JobCancelled,
    JobDidNotSucceed,
    JobExpired,
    JobFailed,
    JobNotFoundError,
    JobNotWaitingError,
    LeaseLostError,
    NotADeadLetterError,
    NotOpenError,
    PayloadTooLargeError,
    PgQueueError,
    ResultTimeoutError,
    SchemaError,
    UnknownQueueError,
    UnknownTaskError,
)
from pgqueue.jobs import Action, Attempt, Job, JobError, JobStatus
from pgqueue.operations import RedriveHandle
from pgqueue.tasks import JobHandle, Signature, Task
from pgqueue.worker import Worker

__version__ = "0.1.0"

__all__ = [
    "Action",
    "Attempt",
    "CodecError",
    "ConfigurationError",
    "DatabaseUnavailableError",
    "DeadLetter",
    "DeadLetterDetails",
    "DeadLetterFilter",
    "DeadLetterGroup",
    "DeadLetterPage",
    "DuplicateJobError",
    "DuplicateTaskError",
    "InvalidArgumentsError",
    "InvalidFilterError",
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
    "JobNotWaitingError",
    "JobStatus",
    "LeaseLostError",
    "NotADeadLetterError",
    "NotOpenError",
    "PayloadTooLargeError",
    "PgQueue",
    "PgQueueError",
    "RedriveHandle",
    "RedriveProgress",
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
