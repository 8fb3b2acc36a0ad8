"""Every metric: its name, kind, labels and help text. Collectors and the reference page are made from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from prometheus_client import CollectorRegistry, Counter
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily


@dataclass(frozen=True, slots=True)
class Declaration:
    """One metric."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    labels: Sequence[str]
    help_text: str

    def counter(self, registry: CollectorRegistry) -> Counter:
        """Return a new counter in *registry*. Raises ValueError if the registry has it already."""
        return Counter(self.name, self.help_text, self.labels, registry=registry)

    def gauge(self) -> GaugeMetricFamily:
        """Return the family of a gauge, without series."""
        return GaugeMetricFamily(self.name, self.help_text, labels=self.labels)

    def counted(self, count: int | None = None) -> CounterMetricFamily:
        """Return the family of a counter that something else counts; None: without series."""
        if count is None:
            return CounterMetricFamily(self.name, self.help_text, labels=self.labels)
        return CounterMetricFamily(self.name, self.help_text, value=count)

    def histogram(self) -> HistogramMetricFamily:
        """Return the family of a histogram, without series."""
        return HistogramMetricFamily(self.name, self.help_text, labels=self.labels)


# Of a process, from its events

JOBS_ENQUEUED: Final = Declaration(
    "pgqueue_jobs_enqueued_total", "counter", ("task", "queue"), "Jobs enqueued by this process"
)
JOBS_CLAIMED: Final = Declaration(
    "pgqueue_jobs_claimed_total", "counter", ("task", "queue"), "Jobs claimed by workers of this process"
)
JOB_WAIT: Final = Declaration(
    "pgqueue_job_wait_seconds", "histogram", ("task", "queue"), "Wait time: from ready to claimed"
)
ATTEMPT_RUN: Final = Declaration(
    "pgqueue_attempt_run_seconds", "histogram", ("task", "queue"), "Run time of handlers"
)
ATTEMPTS_ENDED: Final = Declaration(
    "pgqueue_attempts_ended_total",
    "counter",
    ("task", "queue", "status"),
    "Attempts with a committed outcome, by the job's new status: succeeded, failed, cancelled or expired; "
    "scheduled or pending to run again",
)
ATTEMPTS_RETRIED: Final = Declaration(
    "pgqueue_attempts_retried_total",
    "counter",
    ("task", "queue"),
    "Failed attempts that are followed by another",
)
ATTEMPTS_FENCED: Final = Declaration(
    "pgqueue_attempts_fenced_total", "counter", (), "Outcomes dropped because the lease was lost"
)
ATTEMPTS_ABANDONED: Final = Declaration(
    "pgqueue_attempts_abandoned_total",
    "counter",
    (),
    "Attempts abandoned because their handlers ignored cancellation; such handlers keep running, with no "
    "effect on their jobs",
)
JOBS_RESCUED: Final = Declaration(
    "pgqueue_jobs_rescued_total",
    "counter",
    ("outcome",),
    "Jobs rescued from lost workers, by outcome: requeued, or failed because the job was lost too often",
)
WORK_ERRORS: Final = Declaration(
    "pgqueue_work_errors_total",
    "counter",
    ("doing",),
    "Errors of a worker's own work that it survived, by what it was doing: claiming, finishing, or a chore "
    "of the upkeep; the log has the errors",
)
STRAYS: Final = Declaration(
    "pgqueue_strays_total",
    "counter",
    ("kind",),
    "Rows that fitted nowhere and were put right or failed, by kind: no_record, no_place, two_places, ended, "
    "no_lane or no_lease",
)
JOBS_EXPIRED: Final = Declaration(
    "pgqueue_jobs_expired_total", "counter", (), "Jobs that expired before a worker claimed them"
)
JOBS_RAISED: Final = Declaration(
    "pgqueue_jobs_raised_total",
    "counter",
    ("queue",),
    "Pending jobs whose priority this process raised because they had waited for as long as the `ageing` of "
    "their queue says",
)
JOBS_CANCELLED: Final = Declaration(
    "pgqueue_jobs_cancelled_total", "counter", (), "Waiting jobs that this process cancelled"
)
JOBS_REFUSED: Final = Declaration(
    "pgqueue_jobs_refused_total",
    "counter",
    ("task", "queue"),
    "Jobs that a full limit cancelled (when_full is drop or replace), found so by this process",
)
DEAD_LETTERS: Final = Declaration(
    "pgqueue_dead_letters_total",
    "counter",
    ("task", "queue", "reason"),
    "Jobs that failed permanently, as recorded by workers of this process",
)
BATCH_JOBS: Final = Declaration(
    "pgqueue_batch_jobs", "histogram", ("verb",), "Jobs in one batch; verb: enqueue, claim or finish"
)
BATCH_TIME: Final = Declaration(
    "pgqueue_batch_seconds",
    "histogram",
    ("verb",),
    "Database time of one batch, including the network; verb: enqueue, claim or finish",
)
EVENT_LOOP_LAG: Final = Declaration(
    "pgqueue_event_loop_lag_seconds", "histogram", (), "Event-loop lag of workers, measured twice a second"
)
WORKER_SLOTS: Final = Declaration(
    "pgqueue_worker_slots", "gauge", (), "Maximum number of running handlers in this process"
)
WORKER_RUNNING: Final = Declaration(
    "pgqueue_worker_running", "gauge", (), "Handlers that are running in this process"
)
WORKER_LEASE_AGE: Final = Declaration(
    "pgqueue_worker_lease_age_seconds",
    "gauge",
    (),
    "Time since this process renewed its lease; the longest, if it has several",
)
WORKER_ABANDONED_THREADS: Final = Declaration(
    "pgqueue_worker_abandoned_threads",
    "gauge",
    (),
    "Threads of this process whose handlers run on although their attempts have ended",
)
LOG_RECORDS_DROPPED: Final = Declaration(
    "pgqueue_log_records_dropped_total",
    "counter",
    (),
    "Log records that `pgqueue worker` dropped because nothing read its stderr fast enough",
)

# Of the database

DATABASE_UP: Final = Declaration(
    "pgqueue_database_up",
    "gauge",
    (),
    "1 if the database answered when it was last measured, 0 if not; the other database metrics are then "
    "left out",
)
QUEUE_JOBS: Final = Declaration(
    "pgqueue_queue_jobs",
    "gauge",
    ("queue", "status"),
    "Jobs in a queue by status: pending, scheduled, retrying (scheduled for another attempt), blocked, "
    "running or failed (dead letters); large counts are estimates",
)
QUEUE_OLDEST_PENDING: Final = Declaration(
    "pgqueue_queue_oldest_pending_seconds",
    "gauge",
    ("queue",),
    "How long the first pending job of a queue has been ready",
)
QUEUE_ENQUEUED: Final = Declaration(
    "pgqueue_queue_enqueued_per_second",
    "gauge",
    ("queue",),
    "Jobs enqueued per second by all processes, over the last five minutes",
)
QUEUE_FINISHED: Final = Declaration(
    "pgqueue_queue_finished_per_second",
    "gauge",
    ("queue",),
    "Jobs finished per second by all processes, over the last five minutes",
)
QUEUE_DRAIN: Final = Declaration(
    "pgqueue_queue_drain_seconds",
    "gauge",
    ("queue", "estimate"),
    "Estimated time to empty a queue at current rates; estimate: low, likely or high; +Inf: never",
)
QUEUE_CLAIMED: Final = Declaration(
    "pgqueue_queue_claimed_jobs",
    "gauge",
    ("queue",),
    "Those of the pending jobs of a queue that workers have claimed and not started",
)
QUEUE_PAUSED: Final = Declaration(
    "pgqueue_queue_paused", "gauge", ("queue",), "1 if the queue is paused: no new jobs start"
)
WORKERS_ALIVE: Final = Declaration(
    "pgqueue_workers_alive", "gauge", (), "Live workers on all machines: those whose lease is valid"
)
WORKERS_LEASE_AGE: Final = Declaration(
    "pgqueue_workers_lease_age_seconds", "gauge", (), "Age of the oldest lease renewal among all workers"
)
WORKERS_LOOP_LAG: Final = Declaration(
    "pgqueue_workers_event_loop_lag_seconds",
    "gauge",
    (),
    "Largest event-loop lag among all live workers, also while a loop is blocked",
)
LONGEST_RUNNING_JOB: Final = Declaration(
    "pgqueue_longest_running_job_seconds", "gauge", (), "Run time of the longest-running job"
)
OLDEST_DEAD_LETTER: Final = Declaration(
    "pgqueue_oldest_dead_letter_seconds", "gauge", (), "Age of the oldest dead letter; 0 if there is none"
)

WORKFLOWS_STARTED: Final = Declaration(
    "pgqueue_workflows_started_total",
    "counter",
    (),
    "Workflows enqueued, or opened again by a redrive, by all processes",
)
WORKFLOWS_ENDED: Final = Declaration(
    "pgqueue_workflows_ended_total",
    "counter",
    ("status",),
    "Workflows that have ended, by status; one that is redriven counts again when it ends. Counted by a "
    "running worker, within seconds",
)
WORKFLOWS_LIVE: Final = Declaration(
    "pgqueue_workflows_live",
    "gauge",
    ("state",),
    "Workflows that have not ended, by state: active or paused",
)
OLDEST_WORKFLOW: Final = Declaration(
    "pgqueue_oldest_workflow_seconds",
    "gauge",
    (),
    "Age of the oldest workflow that has not ended and is not paused; 0 if there is none",
)
WORKFLOWS_STALLED: Final = Declaration(
    "pgqueue_workflows_stalled",
    "gauge",
    (),
    "Workflows that stand still: none of their jobs is ready, running or scheduled, nor will be by itself",
)
STALLED_WORKFLOW: Final = Declaration(
    "pgqueue_stalled_workflow_seconds",
    "gauge",
    (),
    "For how long the first of them has stood still; 0 if there is none",
)
WORKFLOW_BARRIERS: Final = Declaration(
    "pgqueue_workflow_barriers_waiting", "gauge", (), "Jobs that wait for several others of their workflow"
)
SCHEDULES: Final = Declaration(
    "pgqueue_schedules",
    "gauge",
    ("state",),
    "Schedules by state: active or paused; failing are those of the active that could not tick",
)
SCHEDULE_OVERDUE: Final = Declaration(
    "pgqueue_schedule_overdue_seconds",
    "gauge",
    (),
    "By how much the schedule is late that is most overdue and not paused; 0 if none is",
)

LIMIT_SLOTS: Final = Declaration(
    "pgqueue_limit_slots",
    "gauge",
    ("limit",),
    "Jobs of each key that a limit lets run at once; no series: any number",
)
LIMIT_RATE: Final = Declaration(
    "pgqueue_limit_rate_per_second",
    "gauge",
    ("limit",),
    "Jobs of each key that a limit lets start per second; no series: it is none of that kind, or any number",
)
LIMIT_IN_USE: Final = Declaration(
    "pgqueue_limit_in_use",
    "gauge",
    ("limit",),
    "Jobs that a limit has let through and that have not ended, over all keys; large counts are estimates",
)
LIMIT_WAITING: Final = Declaration(
    "pgqueue_limit_waiting_jobs",
    "gauge",
    ("limit",),
    "Jobs that wait for a limit, over all keys; large counts are estimates",
)
LIMIT_WAIT: Final = Declaration(
    "pgqueue_limit_waiting_seconds",
    "gauge",
    ("limit",),
    "How long the first job has waited for a limit, besides those in paused queues; 0 if none waits. "
    "Of very many keys, some are looked at",
)
ORDERED_WAITING: Final = Declaration(
    "pgqueue_ordered_waiting_jobs",
    "gauge",
    ("group",),
    "Jobs that wait for their turn in an ordered group, over all keys; large numbers are estimates",
)
ORDERED_STOPPED: Final = Declaration(
    "pgqueue_ordered_stopped_keys",
    "gauge",
    ("group",),
    "Keys of an ordered group that stand still, behind a job that has failed or expired",
)

LIMITERS_HELD: Final = Declaration(
    "pgqueue_limiters_held",
    "gauge",
    ("kind",),
    "Slots of mutexes and concurrent limiters that running jobs hold, counted to 10,000",
)
LIMITERS_WAITING: Final = Declaration(
    "pgqueue_limiters_waiting",
    "gauge",
    ("kind",),
    "Blocks of running jobs that wait for a limiter (slots, bucket or window), counted to 10,000",
)

OF_A_PROCESS: Final = (
    *(JOBS_ENQUEUED, JOBS_CLAIMED, JOB_WAIT, ATTEMPT_RUN, ATTEMPTS_ENDED, ATTEMPTS_RETRIED, ATTEMPTS_FENCED),
    *(
        ATTEMPTS_ABANDONED,
        WORK_ERRORS,
        STRAYS,
        JOBS_RESCUED,
        JOBS_EXPIRED,
        JOBS_CANCELLED,
        JOBS_REFUSED,
        JOBS_RAISED,
        DEAD_LETTERS,
        BATCH_JOBS,
        BATCH_TIME,
    ),
    *(EVENT_LOOP_LAG, WORKER_SLOTS, WORKER_RUNNING, WORKER_LEASE_AGE, WORKER_ABANDONED_THREADS),
    LOG_RECORDS_DROPPED,
)
OF_THE_DATABASE: Final = (
    *(DATABASE_UP, QUEUE_JOBS, QUEUE_OLDEST_PENDING, QUEUE_ENQUEUED, QUEUE_FINISHED, QUEUE_DRAIN),
    *(QUEUE_CLAIMED, QUEUE_PAUSED, WORKERS_ALIVE, WORKERS_LEASE_AGE, WORKERS_LOOP_LAG, LONGEST_RUNNING_JOB),
    *(OLDEST_DEAD_LETTER, WORKFLOWS_STARTED, WORKFLOWS_ENDED, WORKFLOWS_LIVE, OLDEST_WORKFLOW),
    *(WORKFLOWS_STALLED, STALLED_WORKFLOW, WORKFLOW_BARRIERS, SCHEDULES, SCHEDULE_OVERDUE),
    *(LIMIT_SLOTS, LIMIT_RATE, LIMIT_IN_USE, LIMIT_WAITING, LIMIT_WAIT, ORDERED_WAITING, ORDERED_STOPPED),
    *(LIMITERS_HELD, LIMITERS_WAITING),
)
