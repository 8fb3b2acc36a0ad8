"""Sends a batch of outcomes: each kind is a statement of its own, with the lease as its fence."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

from pgqueue.model.outcomes import Ended, Released, Restarted, Retried, Succeeded, Suspended
from pgqueue.store import Settled, Store
from pgqueue.worker.attempt.attempt import RunningAttempt

if TYPE_CHECKING:
    from pgqueue.database.connection import Connection


class Written(NamedTuple):
    """The result of writing a batch: which jobs took their outcome, and which lanes have new ready jobs."""

    kept: Collection[UUID]
    lanes: Collection[int] = ()
    cancelled: Collection[UUID] = ()
    """Jobs that were to run again, and were cancelled instead."""
    notes: Sequence[int] | None = ()
    """What is to be attended to, because jobs that have ended are waited for. None: there may be some."""
    own: Collection[int] = ()
    """Lanes with no more new ready jobs than have ended with this: see WorkerAnnouncer.handed_over."""


async def send(
    store: Store, connection: Connection, batch: Sequence[RunningAttempt], *, worker: str
) -> Written:
    """Send outcomes of one kind, reached under one lease by *worker*, as one statement."""
    lease_id = batch[0].lease_id
    # One kind: see batches.groups.
    outcomes: list[Any] = [attempt.outcome for attempt in batch]
    ids = [attempt.claimed.id for attempt in batch]
    settled = Settled()
    match outcomes[0]:
        case Succeeded(result=result):
            results = None if result is None else [outcome.result for outcome in outcomes]
            kept = await store.finish(connection, lease_id, worker, ids, results, settled)
            return Written(kept, settled.lanes, (), settled.notes, settled.own)
        case Retried():
            ends = await store.retry(connection, lease_id, worker, outcomes, settled)
            cancelled = {job_id for job_id, is_cancelled in ends.items() if is_cancelled}
            return Written(ends.keys(), (), cancelled, settled.notes)
        case Ended():
            failed = await store.fail(connection, lease_id, worker, outcomes, settled)
            return Written(failed, (), (), settled.notes)
        case Released():
            moved = await store.release(connection, lease_id, worker, ids, settled)
            cancelled = {job_id for job_id, lane in moved.items() if lane is None}
            lanes = {lane for lane in moved.values() if lane is not None}
            return Written(moved.keys(), lanes, cancelled, settled.notes)
        case Suspended() | Restarted():
            write = store.suspend if isinstance(outcomes[0], Suspended) else store.restart
            goes_on, lanes_now, are_limited = await write(connection, lease_id, outcomes)
            return Written(goes_on, set(lanes_now), (), None if are_limited else ())
        case _:
            wanted = {(outcome.queue, outcome.priority, outcome.task) for outcome in outcomes}
            await store.make_lanes(connection, wanted)
            aside = await store.put_aside(connection, lease_id, outcomes, settled)
            return Written(aside.keys(), set(aside.values()), (), settled.notes)
