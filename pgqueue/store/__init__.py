"""The statements that read and write pgqueue's data: one function per statement, connection in, values out.

This room opens no transaction and makes no decision, because on a caller's connection the transaction is the
caller's. The statements are in `sql/`, in a folder for each module here, under the names of their functions.
Every write that ends an attempt names the lease under which the job was claimed. The rows that it returns are
the answer: no row means that the lease was lost.
"""

from pgqueue.store.bulk import BulkStatements
from pgqueue.store.claim import ClaimStatements
from pgqueue.store.dead_letters import DeadLetterStatements
from pgqueue.store.durable import DurableStatements, Sent, Wait
from pgqueue.store.enqueue import EnqueueStatements, LimitedJobs
from pgqueue.store.graph import Barrier, Callback, Edge, Graph, NewJob, Node
from pgqueue.store.jobs import JobStatements, job_of
from pgqueue.store.lease import LeaseStatements
from pgqueue.store.limiters import LimiterStatements, Taken
from pgqueue.store.limits import LimitStatements
from pgqueue.store.measure import MeasureStatements
from pgqueue.store.ordering import OrderingStatements
from pgqueue.store.receive import EndedReceipt, Received, ReceiveStatements
from pgqueue.store.schedules import ScheduleRow, ScheduleStatements
from pgqueue.store.settings import SettingStatements
from pgqueue.store.testing import TestingStatements
from pgqueue.store.upkeep import FirstOf, UpkeepStatements
from pgqueue.store.values import (
    NO_PLACE,
    Carried,
    Claimed,
    Countable,
    DeadCount,
    Done,
    DoubtfulLease,
    Estimate,
    Found,
    Hold,
    KeyHolder,
    KeyRow,
    Lane,
    LaneCounts,
    NewJobs,
    Partition,
    Place,
    Promoted,
    Replacement,
    Requeued,
    Rescued,
    Settled,
    Standing,
    Step,
    StoredStep,
    Submitted,
    TaskDone,
    Template,
    Underway,
)
from pgqueue.store.web import WebStatements
from pgqueue.store.workflow_rows import (
    Attended,
    BarrierRow,
    EdgeRow,
    Input,
    InputResults,
    ListedRow,
    NodeRow,
    Swept,
    WorkflowRow,
)
from pgqueue.store.workflows import WorkflowStatements

__all__ = [
    "NO_PLACE",
    "Attended",
    "Barrier",
    "BarrierRow",
    "Callback",
    "Carried",
    "Claimed",
    "Countable",
    "DeadCount",
    "Done",
    "DoubtfulLease",
    "Edge",
    "EdgeRow",
    "EndedReceipt",
    "Estimate",
    "FirstOf",
    "Found",
    "Graph",
    "Hold",
    "Input",
    "InputResults",
    "KeyHolder",
    "KeyRow",
    "Lane",
    "LaneCounts",
    "LimitedJobs",
    "ListedRow",
    "NewJob",
    "NewJobs",
    "Node",
    "NodeRow",
    "Partition",
    "Place",
    "Promoted",
    "Received",
    "Replacement",
    "Requeued",
    "Rescued",
    "ScheduleRow",
    "Sent",
    "Settled",
    "Standing",
    "Step",
    "Store",
    "StoredStep",
    "Submitted",
    "Swept",
    "Taken",
    "TaskDone",
    "Template",
    "Underway",
    "Wait",
    "WorkflowRow",
    "job_of",
]


class Store(
    EnqueueStatements,
    ClaimStatements,
    ReceiveStatements,
    LeaseStatements,
    UpkeepStatements,
    JobStatements,
    SettingStatements,
    LimitStatements,
    OrderingStatements,
    LimiterStatements,
    WebStatements,
    DeadLetterStatements,
    BulkStatements,
    MeasureStatements,
    WorkflowStatements,
    DurableStatements,
    ScheduleStatements,
    TestingStatements,
):
    """The statements for one schema."""
