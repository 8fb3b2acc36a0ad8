"""Background jobs for asyncio programs, with PostgreSQL as the only server.

Import what is named here, and from `pgqueue.web`, `.webhooks`, `.metrics`, `.logs`, `.retry`, `.testing`,
`.blocking`, `.events` and `.embedded`. Every other folder is a room of the machine, named by what it does to
a job; its contents may change with any version. tests/whole/test_layers.py holds which room may import which.
"""

from pgqueue.app import PgQueue
from pgqueue.client.bulk_handle import BulkHandle
from pgqueue.client.received import ReceivedJob
from pgqueue.client.redrive_handle import RedriveHandle
from pgqueue.errors import (
    BackgroundError,
    BatchReplyError,
    CodecError,
    ConfigurationError,
    ContextError,
    DatabaseUnavailableError,
    DuplicateJobError,
    DuplicateKeyError,
    DuplicateTaskError,
    HttpAnswerError,
    HttpTargetError,
    HttpTimeoutError,
    HttpUnreachableError,
    IdempotencyConflictError,
    InvalidArgumentsError,
    InvalidEventError,
    InvalidFilterError,
    InvalidIdError,
    InvalidOptionError,
    InvalidProgressError,
    InvalidSignatureError,
    InvalidStepError,
    InvalidTaskError,
    InvalidWorkflowError,
    JobCancelled,
    JobDidNotSucceed,
    JobExpired,
    JobFailed,
    JobNotFoundError,
    JobNotScheduledError,
    JobNotWaitingError,
    JobOverError,
    JobPurgedError,
    KeyInFlightError,
    LeaseLostError,
    LimiterFullError,
    LimitNotFoundError,
    MissingPrivilegeError,
    NotADeadLetterError,
    NotOpenError,
    PayloadTooLargeError,
    PgQueueError,
    QueueFullError,
    QueueNotEmptyError,
    ReceiptLostError,
    ReceivedJobCancelled,
    RedactedArgumentsError,
    RefusedByDatabaseError,
    ResultTimeoutError,
    ScheduleExistsError,
    ScheduleNotFoundError,
    SchemaError,
    SchemaLockedError,
    SoftTimeLimitExceeded,
    StepOrderError,
    UnknownConnectionError,
    UnknownQueueError,
    UnknownTaskError,
    UnusableAnswerError,
    UnusableConnectionError,
    WorkerLifespanError,
    WorkflowFailed,
    WorkflowNotFoundError,
    WrongEventLoopError,
)
from pgqueue.flow.limits import Limit, LimitBy
from pgqueue.flow.ordering import Ordered, OrderedBy
from pgqueue.model.bulk import BulkProgress
from pgqueue.model.dead_letters import (
    DeadLetter,
    DeadLetterDetails,
    DeadLetterFilter,
    DeadLetterGroup,
    DeadLetterPage,
    RedriveProgress,
)
from pgqueue.model.filters import JobFilter, Page, StatusCount
from pgqueue.model.job_error import JobError
from pgqueue.model.jobs import Action, Attempt, Job, JobStatus
from pgqueue.model.limiters import LimiterUse
from pgqueue.model.limits import LimitJobs, LimitKey, LimitKeyPage, LimitUse
from pgqueue.model.ordering import OrderedGroup, StoppedKey
from pgqueue.model.progress import Progress
from pgqueue.model.rates import Rate
from pgqueue.model.schedules import Schedule, Tick
from pgqueue.model.setting import Setting
from pgqueue.model.waits import Wait
from pgqueue.model.workflows import Workflow, WorkflowFilter
from pgqueue.options.checks import FROM_ARGUMENTS
from pgqueue.retry.control import RateLimited, Reject, Retry, Snooze
from pgqueue.tasks.batches import Batch, BatchItem
from pgqueue.tasks.canvas import Canvas, Chain, Group, Link
from pgqueue.tasks.combining import chain, chord, group, group_of
from pgqueue.tasks.context import JobContext, current_job
from pgqueue.tasks.dependencies import Depends
from pgqueue.tasks.handle import JobHandle
from pgqueue.tasks.joins import at_least
from pgqueue.tasks.limiters import Limiter
from pgqueue.tasks.middleware import Middleware
from pgqueue.tasks.results import Outcome, Results
from pgqueue.tasks.signature import Signature
from pgqueue.tasks.task import AsyncTask, SyncTask, Task
from pgqueue.tasks.workflow_handle import ChildHandle, WorkflowHandle
from pgqueue.worker import Worker
from pgqueue.workflows.dag import DagNode, WorkflowBuilder

__version__ = "0.1.0"

__all__ = [
    "FROM_ARGUMENTS",
    "Action",
    "AsyncTask",
    "Attempt",
    "BackgroundError",
    "Batch",
    "BatchItem",
    "BatchReplyError",
    "BulkHandle",
    "BulkProgress",
    "Canvas",
    "Chain",
    "ChildHandle",
    "CodecError",
    "ConfigurationError",
    "ContextError",
    "DagNode",
    "DatabaseUnavailableError",
    "DeadLetter",
    "DeadLetterDetails",
    "DeadLetterFilter",
    "DeadLetterGroup",
    "DeadLetterPage",
    "Depends",
    "DuplicateJobError",
    "DuplicateKeyError",
    "DuplicateTaskError",
    "Group",
    "HttpAnswerError",
    "HttpTargetError",
    "HttpTimeoutError",
    "HttpUnreachableError",
    "IdempotencyConflictError",
    "InvalidArgumentsError",
    "InvalidEventError",
    "InvalidFilterError",
    "InvalidIdError",
    "InvalidOptionError",
    "InvalidProgressError",
    "InvalidSignatureError",
    "InvalidStepError",
    "InvalidTaskError",
    "InvalidWorkflowError",
    "Job",
    "JobCancelled",
    "JobContext",
    "JobDidNotSucceed",
    "JobError",
    "JobExpired",
    "JobFailed",
    "JobFilter",
    "JobHandle",
    "JobNotFoundError",
    "JobNotScheduledError",
    "JobNotWaitingError",
    "JobOverError",
    "JobPurgedError",
    "JobStatus",
    "KeyInFlightError",
    "LeaseLostError",
    "Limit",
    "LimitBy",
    "LimitJobs",
    "LimitKey",
    "LimitKeyPage",
    "LimitNotFoundError",
    "LimitUse",
    "Limiter",
    "LimiterFullError",
    "LimiterUse",
    "Link",
    "Middleware",
    "MissingPrivilegeError",
    "NotADeadLetterError",
    "NotOpenError",
    "Ordered",
    "OrderedBy",
    "OrderedGroup",
    "Outcome",
    "Page",
    "PayloadTooLargeError",
    "PgQueue",
    "PgQueueError",
    "Progress",
    "QueueFullError",
    "QueueNotEmptyError",
    "Rate",
    "RateLimited",
    "ReceiptLostError",
    "ReceivedJob",
    "ReceivedJobCancelled",
    "RedactedArgumentsError",
    "RedriveHandle",
    "RedriveProgress",
    "RefusedByDatabaseError",
    "Reject",
    "ResultTimeoutError",
    "Results",
    "Retry",
    "Schedule",
    "ScheduleExistsError",
    "ScheduleNotFoundError",
    "SchemaError",
    "SchemaLockedError",
    "Setting",
    "Signature",
    "Snooze",
    "SoftTimeLimitExceeded",
    "StatusCount",
    "StepOrderError",
    "StoppedKey",
    "SyncTask",
    "Task",
    "Tick",
    "UnknownConnectionError",
    "UnknownQueueError",
    "UnknownTaskError",
    "UnusableAnswerError",
    "UnusableConnectionError",
    "Wait",
    "Worker",
    "WorkerLifespanError",
    "Workflow",
    "WorkflowBuilder",
    "WorkflowFailed",
    "WorkflowFilter",
    "WorkflowHandle",
    "WorkflowNotFoundError",
    "WrongEventLoopError",
    "at_least",
    "chain",
    "chord",
    "current_job",
    "group",
    "group_of",
]
