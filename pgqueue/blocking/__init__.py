"""pgqueue for programs without asyncio: the same calls, each of which blocks until it is done.

An event loop runs in a background thread. Workers cannot be run here: they need an event loop to themselves.
Each method is made from the one of the same name that is awaited: same arguments, same errors.
"""

from pgqueue.blocking.handles import (
    BlockingJobHandle,
    BlockingRedriveHandle,
    BlockingSchedules,
    BlockingWorkflowBuilder,
    BlockingWorkflowHandle,
)
from pgqueue.blocking.queue import BlockingPgQueue

__all__ = [
    "BlockingJobHandle",
    "BlockingPgQueue",
    "BlockingRedriveHandle",
    "BlockingSchedules",
    "BlockingWorkflowBuilder",
    "BlockingWorkflowHandle",
]
