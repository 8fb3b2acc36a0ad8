"""What is known in the end: what processes noted, and what the database has.

Times are those of the records' clock; times of the database are brought to it.
"""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import asyncpg

from faults.records import Record, read_records

TERMINAL = frozenset({"succeeded", "failed", "cancelled", "expired"})


@dataclass
class Run:
    """One execution of a handler."""

    job: str
    task: str
    n: int
    attempt: int
    worker: int
    """The process of its worker: the parent's, of an isolated one."""
    began: float
    ended: float | None = None
    how: str | None = None
    """"ok", or the type of what it raised. None: it never ended, as far as anybody knows."""


@dataclass(frozen=True)
class Call:
    """One call of an enqueuer."""

    kind: str
    ns: Sequence[int]
    began: float
    ids: Sequence[str] = ()
    """What was acknowledged."""
    acknowledged: float | None = None
    keys: Sequence[str | None] = ()
    """Of ordered and limited jobs."""
    key: str | None = None
    """An idempotency key."""
    error: str | None = None
    may_have_happened: bool = True
    seconds: float = 0.0


@dataclass(frozen=True)
class Accepted:
    """An outcome of an attempt that a worker took for committed."""

    job: str
    attempt: int
    status: str
    reason: str | None
    worker: int
    at: float


@dataclass(frozen=True)
class Span:
    """Something that lasted, for these processes or (none) for all."""

    fault: str
    began: float
    ended: float = math.inf
    pids: frozenset[int] = frozenset()

    def touches(self, began: float, ended: float, pid: int) -> bool:
        """Whether it lasted at some time in between, for this process."""
        return self.began <= ended and began <= self.ended and (not self.pids or pid in self.pids)


@dataclass(frozen=True)
class Attempt:
    """A row of the history of a job."""

    attempt: int
    reason: str
    worker: str | None
    ended: float


@dataclass
class StoredJob:
    """A job as the database has it."""

    id: str
    task: str
    status: str
    n: int | None = None
    result: Any = None
    reason: str | None = None
    error: str | None = None
    key: str | None = None
    """What it is ordered or limited by."""
    run_at: float | None = None
    places: int = 0
    """In how many tables it waits or runs."""
    ends: list[tuple[str, float]] = field(default_factory=list)
    """Its ends, as the database saw them: status and time."""
    attempts: list[Attempt] = field(default_factory=list)
    ledger: int = 0


@dataclass
class Evidence:
    """All of it."""

    jobs: dict[str, StoredJob] = field(default_factory=dict)
    strays: int = 0
    """Rows about jobs that have no record."""
    orders: Counter[int] = field(default_factory=Counter)
    """Rows that callers wrote in their transactions, by number."""
    calls: list[Call] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)
    accepted: list[Accepted] = field(default_factory=list)
    fenced: list[tuple[str, int, float]] = field(default_factory=list)
    """Job, worker and time of each outcome that was dropped."""
    rescues: dict[str, float] = field(default_factory=dict)
    """When the last job of each lost worker was back in the queue, by the worker's name."""
    receipts: dict[str, set[str]] = field(default_factory=dict)
    cancels: list[tuple[str, bool, float]] = field(default_factory=list)
    """Job, whether it was heard, and when the answer was there."""
    spans: list[Span] = field(default_factory=list)
    deaths: dict[int, float] = field(default_factory=dict)
    """When processes of workers had ended."""
    names: dict[str, int] = field(default_factory=dict)
    """The process of each worker that has started a job, by the worker's name."""
    kills: dict[int, float] = field(default_factory=dict)
    """When they were killed."""
    terminated: dict[int, float] = field(default_factory=dict)
    """When they were asked to stop."""
    is_clock_steady: bool = True
    """Whether times of the database can be brought to the records' clock."""
    troubles: list[str] = field(default_factory=list)
    """What went wrong with the experiment itself, or never ended."""

    def runs_by_job(self) -> dict[str, list[Run]]:
        """Return the runs of each job, in the order of their starts."""
        found: dict[str, list[Run]] = defaultdict(list)
        for run in sorted(self.runs, key=lambda run: run.began):
            found[run.job].append(run)
        return found

    def accepted_by_job(self) -> dict[str, list[Accepted]]:
        """Return the accepted outcomes of each job."""
        found: dict[str, list[Accepted]] = defaultdict(list)
        for each in self.accepted:
            found[each.job].append(each)
        return found

    def end_of(self, run: Run) -> float:
        """Return when a run was over at the latest; infinity: nobody knows."""
        return min(run.ended or math.inf, self.deaths.get(run.worker, math.inf))

    def touched(self, began: float, ended: float, pid: int) -> list[Span]:
        """Return what disturbed a process in between."""
        return [span for span in self.spans if span.touches(began, ended, pid)]


def from_records(records: Iterable[Record]) -> Evidence:
    """Return what the records say."""
    reader = _Reader()
    for record in records:
        reader.read(record)
    return reader.close()


class _Reader:
    """Reads records in the order of their times: a method for each kind."""

    def __init__(self) -> None:
        self.evidence = Evidence()
        self._runs: dict[str, Run] = {}
        self._intents: dict[str, Record] = {}
        self._open: dict[tuple[str, tuple[int, ...]], float] = {}

    def read(self, record: Record) -> None:
        """Take a record; one of an unknown kind says nothing here."""
        method = getattr(self, f"_on_{record['kind']}", None)
        if method is not None:
            method(record, float(record["at"]))

    def close(self) -> Evidence:
        """Return all that was read."""
        # Of calls without an answer nobody knows; they were made.
        self.evidence.calls += [_call(intent, None) for intent in self._intents.values()]
        for (fault, pids), began in self._open.items():
            self.evidence.spans.append(Span(fault, began, pids=frozenset(pids)))
        return self.evidence

    def _on_intent(self, record: Record, _at: float) -> None:
        self._intents[record["call"]] = record

    def _on_acknowledged(self, record: Record, _at: float) -> None:
        self.evidence.calls.append(_call(self._intents.pop(record["call"]), record))

    _on_refused = _on_acknowledged

    def _on_start(self, record: Record, at: float) -> None:
        fields = {name: record[name] for name in ("job", "task", "n", "attempt", "worker")}
        run = self._runs[record["run"]] = Run(**fields, began=at)
        self.evidence.runs.append(run)
        self.evidence.names[record["name"]] = run.worker

    def _on_end(self, record: Record, at: float) -> None:
        run = self._runs[record["run"]]
        run.ended, run.how = at, record["how"]

    def _on_accepted(self, record: Record, at: float) -> None:
        fields = {name: record[name] for name in ("job", "attempt", "status", "reason")}
        self.evidence.accepted.append(Accepted(**fields, worker=record["by"], at=at))

    def _on_fenced(self, record: Record, at: float) -> None:
        self.evidence.fenced += [(job, record["by"], at) for job in record["jobs"]]

    def _on_rescued(self, record: Record, at: float) -> None:
        self.evidence.rescues[record["worker"]] = at

    def _on_receipt(self, record: Record, _at: float) -> None:
        self.evidence.receipts.setdefault(record["job"], set()).add(record["receipt"])

    def _on_cancelled(self, record: Record, at: float) -> None:
        self.evidence.cancels.append((record["job"], record["is_heard"], at))

    def _on_fault_began(self, record: Record, at: float) -> None:
        self._open[record["fault"], tuple(record["pids"])] = at

    def _on_fault_ended(self, record: Record, at: float) -> None:
        self._close(record["fault"], tuple(record["pids"]), at)

    def _on_frozen(self, record: Record, at: float) -> None:
        self._open["frozen", (record["pid"],)] = at

    def _on_thawed(self, record: Record, at: float) -> None:
        self._close("frozen", (record["pid"],), at)

    def _close(self, fault: str, pids: tuple[int, ...], at: float) -> None:
        began = self._open.pop((fault, pids), None)
        if began is not None:
            self.evidence.spans.append(Span(fault, began, at, frozenset(pids)))

    def _on_killed(self, record: Record, at: float) -> None:
        self.evidence.kills[record["pid"]] = at
        self.evidence.deaths.setdefault(record["pid"], at)

    def _on_terminated(self, record: Record, at: float) -> None:
        self.evidence.terminated.setdefault(record["pid"], at)

    def _on_worker_ended(self, record: Record, at: float) -> None:
        self.evidence.deaths[record["pid"]] = at

    def _on_clock_steps(self, _record: Record, _at: float) -> None:
        self.evidence.is_clock_steady = False

    def _on_not_drained(self, record: Record, _at: float) -> None:
        self.evidence.troubles.append(f"jobs are live {record['seconds']:.0f} s after the last disturbance")

    def _on_did_not_stop(self, record: Record, _at: float) -> None:
        self.evidence.troubles.append(f"the worker {record['pid']} did not stop when it was asked to")

    def _on_enqueuer_failed(self, record: Record, _at: float) -> None:
        self.evidence.troubles.append(f"an enqueuer ended with exit code {record['code']}")


def _call(intent: Record, answer: Record | None) -> Call:
    common = {name: intent[name] for name in ("ns", "keys", "key")}
    call = Call(kind=intent["task"], began=intent["at"], **common)
    if answer is None:
        return call
    call = replace(call, seconds=answer["seconds"])
    if answer["kind"] == "acknowledged":
        return replace(call, ids=answer["ids"], acknowledged=answer["at"])
    return replace(call, error=answer["error"], may_have_happened=answer["may_have_happened"])


async def read_evidence(folder: Path, dsn: str) -> Evidence:
    """Return what the records in *folder* say, and the database."""
    records = read_records(folder)
    evidence = from_records(records)
    ahead = next(record["wall"] - record["at"] for record in records if record["kind"] == "clock")
    connection = await asyncpg.connect(dsn)
    try:
        await _read_database(evidence, connection, ahead)
    finally:
        await connection.close()
    return evidence


JOBS = """
    select jobs.id, jobs.task, jobs.status::text, jobs.arguments::text, jobs.result::text, jobs.reason,
        jobs.error->>'message' as error, extract(epoch from jobs.run_at)::float8 as run_at
    from pgqueue.jobs
"""
PLACES = " union all ".join(
    f"select job_id from pgqueue.{table}" for table in ("ready", "running", "scheduled", "blocked")
)
ENDS = "select job_id, status, extract(epoch from at)::float8 as at from public.transitions order by id"
ATTEMPTS = """
    select job_id, attempt, reason, worker, extract(epoch from ended_at)::float8 as at
    from pgqueue.attempt order by id
"""


async def _read_database(
    evidence: Evidence, connection: asyncpg.Connection[asyncpg.Record], ahead: float
) -> None:
    for row in await connection.fetch(JOBS):
        evidence.jobs[str(row["id"])] = _stored_job(row, ahead)

    async def rows_of_jobs(query: str) -> list[tuple[StoredJob, asyncpg.Record]]:
        rows = [(str(row["job_id"]), row) for row in await connection.fetch(query)]
        evidence.strays += sum(job not in evidence.jobs for job, _ in rows)
        return [(evidence.jobs[job], row) for job, row in rows if job in evidence.jobs]

    for job, _ in await rows_of_jobs(PLACES):
        job.places += 1
    for job, row in await rows_of_jobs(ENDS):
        job.ends.append((row["status"], row["at"] - ahead))
    for job, row in await rows_of_jobs(ATTEMPTS):
        job.attempts.append(Attempt(row["attempt"], row["reason"], row["worker"], row["at"] - ahead))
    for job, _ in await rows_of_jobs("select job_id from public.ledger"):
        job.ledger += 1
    for row in await connection.fetch("select n from public.orders"):
        evidence.orders[row["n"]] += 1


def _stored_job(row: asyncpg.Record, ahead: float) -> StoredJob:
    arguments = json.loads(row["arguments"])
    named: Mapping[str, Any] = arguments if isinstance(arguments, dict) else {}
    return StoredJob(
        id=str(row["id"]),
        task=row["task"],
        status=row["status"],
        n=named.get("n"),
        result=None if row["result"] is None else json.loads(row["result"]),
        reason=row["reason"],
        error=row["error"],
        key=named.get("key"),
        run_at=None if row["run_at"] is None else row["run_at"] - ahead,
    )
