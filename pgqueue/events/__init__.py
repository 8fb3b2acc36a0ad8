"""What happens to jobs, as values, and the observers that are told.

An event is told after the commit (an enqueue in a caller's transaction says that it is open), once a batch,
so that it costs a batch and not a job; what it says of each job is made when it is read. Observers run on
the event loop and return at once. One that raises is logged, and neither disturbs the others nor the work
that it was told of.
"""

from pgqueue.events.attempts import (
    AttemptEnded,
    AttemptsEnded,
    AttemptsFenced,
    JobsClaimed,
    JobsStarted,
    JobStarted,
)
from pgqueue.events.kinds import (
    KINDS,
    AttemptsAbandoned,
    BatchSent,
    CancelsRequested,
    DeadLettersEntered,
    Event,
    JobMoved,
    JobRescued,
    JobsCancelled,
    JobsEnqueued,
    JobsExpired,
    JobsPromoted,
    JobsRaised,
    JobsReopened,
    JobsReplaced,
    JobsRescued,
    JobsUnblocked,
    LoopTurned,
    StraysFound,
    WorkErrorIsolated,
)
from pgqueue.events.observers import Observer, Observers
from pgqueue.events.shares import SAMPLE, Share, TaskAndQueue, shares
from pgqueue.model.job_info import JobInfo
from pgqueue.model.outcomes import Ended, Outcome, Retried, Succeeded

__all__ = [
    "KINDS",
    "SAMPLE",
    "AttemptEnded",
    "AttemptsAbandoned",
    "AttemptsEnded",
    "AttemptsFenced",
    "BatchSent",
    "CancelsRequested",
    "DeadLettersEntered",
    "Ended",
    "Event",
    "JobInfo",
    "JobMoved",
    "JobRescued",
    "JobStarted",
    "JobsCancelled",
    "JobsClaimed",
    "JobsEnqueued",
    "JobsExpired",
    "JobsPromoted",
    "JobsRaised",
    "JobsReopened",
    "JobsReplaced",
    "JobsRescued",
    "JobsStarted",
    "JobsUnblocked",
    "LoopTurned",
    "Observer",
    "Observers",
    "Outcome",
    "Retried",
    "Share",
    "StraysFound",
    "Succeeded",
    "TaskAndQueue",
    "WorkErrorIsolated",
    "shares",
]
