"""pgqueue for programs without asyncio: the same calls, each of which blocks until it is done.

An event loop runs in a background thread, and so do workers: `with queue.worker():`. Async handlers run in
that loop, plain functions in threads of their own.
Each method is made from the one of the same name that is awaited: same arguments, same errors.
"""

from pgqueue.blocking.handles import (
    BlockingBulkHandle,
    BlockingJobHandle,
    BlockingReceivedJob,
    BlockingRedriveHandle,
    BlockingSchedules,
    BlockingWorker,
    BlockingWorkflowBuilder,
    BlockingWorkflowHandle,
)
from pgqueue.blocking.queue import BlockingPgQueue

__all__ = [
    "BlockingBulkHandle",
    "BlockingJobHandle",
    "BlockingPgQueue",
    "BlockingReceivedJob",
    "BlockingRedriveHandle",
    "BlockingSchedules",
    "BlockingWorker",
    "BlockingWorkflowBuilder",
    "BlockingWorkflowHandle",
]
