"""What has to be in the store after what was done to it: pure Python, told what was done and nothing else.

A job is *queued* where it is pending and unclaimed, also while it waits for its limits: when these let it
through is theirs to say, and what must hold of them is among the checks.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal
from uuid import UUID

Place = Literal[
    "queued", "held", "running", "scheduled", "suspended", "following", "joined",
    "succeeded", "failed", "cancelled", "expired",
]  # fmt: skip
"""Held: prefetched. Suspended: it waits for an event; following: for another job; joined: for those of a
workflow."""
ENDED: Final = frozenset({"succeeded", "failed", "cancelled", "expired"})
UNSTARTED: Final = frozenset({"queued", "held", "scheduled", "suspended", "following", "joined"})
DEPTH: Final = 6
"""Jobs of the longest chain: what becomes of the first is followed to the last."""
LOSSES: Final = 3
"""What a task allows that says nothing."""


@dataclass
class Known:
    """One job as it has to be."""

    place: Place
    kind: str = "plain"
    attempt: int = 0
    losses: int = 0
    history: list[str] = field(default_factory=list)
    """Why its attempts ended, over all its lives, but for the one that succeeded."""
    alone: list[bool] = field(default_factory=list)
    """Of its losses, those of all lives: whether it ran alone."""
    has_run: bool = False
    """Whether an attempt that had started is on record."""
    lease: UUID | None = None
    due: float | None = None
    expires: float | None = None
    asked: UUID | None = None
    """The lease that is asked to cancel it."""
    is_dead: bool = False
    reason: str | None = None
    losses_allowed: int = LOSSES
    limited: bool = False
    may_drop: bool = False
    """A full limit cancels it unless it has run."""
    follows: UUID | None = None
    before: Collection[UUID] = ()
    """Whose ends it waits for, in a workflow."""
    runs_anyway: bool = False
    ends: set[str] = field(default_factory=set)
    """All the ways in which it has ever ended."""
    reopened: bool = False
    """It was made pending again, and so may be what was cancelled because of it."""
    member: bool = False
    """Of a workflow, or before or behind a job of one."""
    run_at: float | None = None
    """The earliest start that its caller asked for."""
    claims: int = 0
    was_held: bool = False
    """Its workflow was paused at some time."""
    events: int = 0
    queue: str = "default"
    priority: int = 0
    task: str = ""

    def end(self, how: Place, reason: str | None = None, *, attempt: int | None = None) -> None:
        """End the job."""
        self.place, self.lease, self.due, self.reason = how, None, None, reason
        self.is_dead = how == "failed"
        self.ends.add(how)
        if attempt is not None:
            self.attempt = attempt

    def wait(self, place: Place = "queued") -> None:
        """Have the job wait in a place, of no worker."""
        self.place, self.lease, self.due = place, None, None


@dataclass
class Key:
    """An idempotency key: who has it, and until when."""

    job: UUID
    span: str
    until: float | None = None


@dataclass
class Oracle:
    """All jobs, keys and leases as they have to be."""

    now: float = 0.0
    jobs: dict[UUID, Known] = field(default_factory=dict)
    keys: dict[str, Key] = field(default_factory=dict)
    beside: dict[UUID, int] = field(default_factory=dict)
    """Of leases whose rescue has begun: how many jobs ran beside each other."""
    gone: set[UUID] = field(default_factory=set)
    """Jobs past their retention, removed."""

    # Claims

    def holds(self, job_id: UUID, lease: UUID, *, started: bool = True) -> bool:
        """Whether the fence lets an outcome of this attempt through."""
        job = self.jobs.get(job_id)
        return job is not None and job.lease == lease and job.place == ("running" if started else "held")

    def claim(self, job_id: UUID, lease: UUID, *, starts: bool) -> None:
        """Have a worker take a queued job."""
        job = self.jobs[job_id]
        assert job.place == "queued", f"claimed while it was {job.place}"
        job.place, job.lease = ("running" if starts else "held"), lease
        job.attempt += starts
        job.claims += 1

    def start(self, job_id: UUID) -> None:
        """Have a prefetched job start."""
        job = self.jobs[job_id]
        job.place = "running"
        job.attempt += 1

    def release(self, job_id: UUID, *, noted: bool = True) -> None:
        """Return a job to the queue; the attempt does not count. *noted*: it is on record."""
        job = self.jobs[job_id]
        started = job.place == "running"
        if job.asked is not None and noted:
            if started:
                self._record(job, "cancelled")
            job.end("cancelled", "asked")
            return
        if started:
            if noted:
                self._record(job, "released")
            job.attempt -= 1
        job.wait()

    # Ends of attempts

    def finish(self, job_id: UUID) -> None:
        """Have an attempt succeed."""
        self.jobs[job_id].end("succeeded")

    def fail(self, job_id: UUID, how: Place, reason: str) -> None:
        """Have an attempt end its job without success."""
        job = self.jobs[job_id]
        if how == "expired":
            job.end(how, reason, attempt=job.attempt - 1)
            return
        self._record(job, reason)
        job.end(how, reason)

    def retry(self, job_id: UUID, delay: float, reason: str, *, counts: bool) -> None:
        """Have an attempt be followed by another."""
        job = self.jobs[job_id]
        self._record(job, reason)
        if job.asked is not None:
            job.end("cancelled", "asked")
            return
        job.attempt -= not counts
        job.wait("scheduled")
        job.due = self.now + delay

    def suspend(self, job_id: UUID) -> None:
        """Have a handler wait for an event."""
        job = self.jobs[job_id]
        job.attempt -= 1
        job.expires = None
        job.wait("queued" if job.events else "suspended")

    def restart(self, job_id: UUID) -> None:
        """Have a handler begin anew with other arguments. What was lost before is forgotten."""
        job = self.jobs[job_id]
        job.attempt = job.losses = 0
        job.expires = None
        job.wait()

    def lose(self, lease: UUID, ids: Iterable[UUID]) -> None:
        """Rescue jobs of a lost worker."""
        if lease not in self.beside:
            self.beside[lease] = max(0, len(self.held_by(lease, "running")) - 1)
        for job_id in ids:
            job = self.jobs[job_id]
            if job.place == "held":
                job.wait()
                continue
            alone = self.beside[lease] == 0
            before = sum(job.alone[len(job.alone) - job.losses :])
            allowed = job.losses_allowed
            is_lost = allowed == 0 or (alone and allowed <= before)
            self._record(job, "lost")
            job.alone.append(alone)
            if job.asked is not None:
                job.end("cancelled", "asked")
            elif is_lost:
                job.end("failed", "worker_lost")
            else:
                job.losses += 1
                job.attempt -= 1
                job.wait()

    def held_by(self, lease: UUID, *places: str) -> set[UUID]:
        """Return the jobs that a lease holds."""
        return {job_id for job_id, job in self.jobs.items() if job.lease == lease and job.place in places}

    def _record(self, job: Known, reason: str) -> None:
        job.history.append(reason)
        job.has_run = True

    # What operators and the upkeep do

    def cancel(self, job_id: UUID) -> str | None:
        """Cancel a job; return what is answered."""
        job = self.jobs.get(job_id)
        if job is None or job.place in ENDED:
            return None
        if job.place in UNSTARTED:
            job.end("cancelled", "asked")
            return "cancelled"
        job.asked = job.lease
        return "requested"

    def carry_out_cancels(self) -> None:
        """Settle requests of attempts that are over."""
        for job_id, job in self.jobs.items():
            if job.asked is not None and not (job.lease == job.asked and job.place in ("held", "running")):
                job.asked = None
                self.cancel(job_id)

    def promote(self) -> None:
        """Have scheduled jobs be pending whose time has come."""
        for job in self.jobs.values():
            if job.place == "scheduled" and job.due is not None and job.due <= self.now:
                job.wait()

    def unblock(self) -> None:
        """Have jobs go on that follow one that has ended, or is gone."""
        for job in self.jobs.values():
            if job.place == "following":
                before = self.jobs.get(job.follows) if job.follows else None
                if before is None or before.place in ENDED:
                    job.follows = None
                    if job.due is not None and job.due > self.now:
                        job.place = "scheduled"
                    else:
                        job.wait()

    def expire(self, job_id: UUID) -> None:
        """See that a job may expire, and have it end."""
        job = self.jobs[job_id]
        assert job.place in UNSTARTED, f"expired while it was {job.place}"
        assert job.expires is not None and job.expires <= self.now, "expired before its time"  # noqa: PT018
        job.end("expired", "expired")

    def reopen(self, job_id: UUID, *, resets: bool = True) -> None:
        """Make an ended job pending again."""
        job = self.jobs[job_id]
        job.attempt = 0 if resets else job.attempt
        job.losses = 0
        job.asked = None
        job.is_dead = False
        job.reason = None
        job.reopened = True
        if job.expires is not None and job.expires <= self.now:
            job.expires = None
        job.wait()

    def prune(self, ids: Iterable[UUID]) -> None:
        """Have ended jobs be gone."""
        for job_id in ids:
            assert self.jobs[job_id].place in ENDED, f"removed while it was {self.jobs[job_id].place}"
            del self.jobs[job_id]
            self.gone.add(job_id)

    # Keys

    def holder(self, key: str) -> Key | None:
        """Return who holds a key, if anybody does."""
        held = self.keys.get(key)
        if held is None:
            return None
        job = self.jobs.get(held.job)
        match held.span:
            case "window":
                is_held = held.until is not None and self.now < held.until
            case "forever":
                is_held = True
            case "pending":
                is_held = job is not None and job.place in UNSTARTED
            case "started":
                is_held = job is not None and job.place in UNSTARTED and not job.has_run
            case "terminal":
                is_held = job is not None and job.place not in ENDED
            case _:
                is_held = job is not None and job.place not in ("succeeded", "cancelled", "expired")
        return held if is_held else None

    # What the store has

    def differences(self, rows: Mapping[UUID, Mapping[str, Any]]) -> list[str]:
        """Follow the moves that are not this model's to foretell, and say what differs from it else."""
        found = [
            f"{job_id} is lost: it was {self.jobs[job_id].place}" for job_id in self.jobs.keys() - rows.keys()
        ]
        found += [f"{job_id} is there, and nobody made it" for job_id in rows.keys() - self.jobs.keys()]
        for _ in range(DEPTH):
            for job_id in self.jobs.keys() & rows.keys():
                self._follow(self.jobs[job_id], rows[job_id])
        for job_id in self.jobs.keys() & rows.keys():
            job, row = self.jobs[job_id], rows[job_id]
            is_live = job.place not in ENDED
            # In a paused workflow nothing is let through: it waits for that, and not behind its limits.
            is_set_back = job.was_held and job.limited and (job.place, row["place"]) == ("queued", "joined")
            expected = {
                "place": row["place"] if is_set_back else job.place,
                "attempt": job.attempt,
                "losses": job.losses if is_live else row["losses"],
                "history": job.history,
                "lease": job.lease,
                "asked": job.asked,
                "is_dead": job.is_dead,
            }
            found += [
                f"{job.kind} {job_id}: {name} is {row[name]}, and has to be {value}"
                for name, value in expected.items()
                if row[name] != value
            ]
        return found

    def _follow(self, job: Known, row: Mapping[str, Any]) -> None:
        now = row["place"]
        job.was_held |= row["is_held"]
        if job.place == now:
            return
        if now == "cancelled" and job.place == "queued" and job.may_drop and not job.has_run:
            job.end("cancelled", "limit")
        elif job.place == "following" and now in ("queued", "scheduled"):
            before = self.jobs.get(job.follows) if job.follows else None
            if before is None or before.place in ENDED:
                job.place = now
        elif job.before:
            self._follow_node(job, now, row["reason"])

    def _follow_node(self, job: Known, now: str, reason: str | None) -> None:
        ends = [self.jobs[each].ends if each in self.jobs else set(ENDED) for each in job.before]
        may_start = all(each if job.runs_anyway else "succeeded" in each for each in ends)
        is_doomed = reason == "upstream_failed" and any(each - {"succeeded"} for each in ends)
        may_be_back = job.reason == "upstream_failed" and any(
            each not in self.jobs or self.jobs[each].reopened for each in job.before
        )
        match job.place, now:
            case "joined", "queued" if may_start:
                job.wait()
            case "joined", "cancelled" if is_doomed:
                job.end("cancelled", reason)
            case "cancelled", "joined" | "queued" if may_be_back:
                job.attempt = job.losses = 0
                job.reopened, job.reason = True, None
                job.wait("joined" if now == "joined" else "queued")
