"""What pgqueue does to its data: one function per statement, connection in, values out.

Opens no transaction and decides nothing: on a caller's connection the transaction is the caller's. The
statements are in `sql/`, in a folder for each module here, each under its function's name. Every write that
ends an attempt names the lease under which the job was claimed, and the rows that come back are the answer:
no row means that the lease was lost.
"""

from pgqueue.store.claim import ClaimStatements
from pgqueue.store.dead_letters import DeadLetterStatements
from pgqueue.store.end import EndStatements
from pgqueue.store.enqueue import EnqueueStatements
from pgqueue.store.jobs import JobStatements, job_of
from pgqueue.store.lease import LeaseStatements
from pgqueue.store.measure import MeasureStatements
from pgqueue.store.settings import SettingStatements
from pgqueue.store.upkeep import UpkeepStatements
from pgqueue.store.values import (
    Carried,
    Claimed,
    Countable,
    DeadCount,
    Done,
    Estimate,
    Found,
    KeyHolder,
    KeyRow,
    Lane,
    LaneCounts,
    NewJobs,
    Partition,
    Promoted,
    Requeued,
    Rescued,
    Standing,
    Step,
    Template,
)

__all__ = [
    "Carried",
    "Claimed",
    "Countable",
    "DeadCount",
    "Done",
    "Estimate",
    "Found",
    "KeyHolder",
    "KeyRow",
    "Lane",
    "LaneCounts",
    "NewJobs",
    "Partition",
    "Promoted",
    "Requeued",
    "Rescued",
    "Standing",
    "Step",
    "Store",
    "Template",
    "job_of",
]


class Store(
    EnqueueStatements,
    ClaimStatements,
    EndStatements,
    LeaseStatements,
    UpkeepStatements,
    JobStatements,
    SettingStatements,
    DeadLetterStatements,
    MeasureStatements,
):
    """The statements for one schema."""
