"""How ordered groups look from outside, as JSON: over HTTP and on the command line. See `documents`."""

from __future__ import annotations

import sys

from pgqueue.model.documents import Id, Time
from pgqueue.model.ordering import OrderedGroup, StoppedKey

if sys.version_info >= (3, 12):
    from typing import TypedDict
else:
    # pydantic, which describes these types, cannot read those of an older `typing`.
    from typing_extensions import TypedDict


class OrderedGroupDocument(TypedDict):
    """An ordered group, over all of its keys."""

    name: str
    on_dead: str
    """What becomes of the jobs behind one that fails or expires: block, skip or halt."""
    waiting: int
    """Jobs that wait for their turn."""
    stopped: int
    """Keys that stand still behind a job that has failed or expired."""
    halted: int
    """Those of them that wait until they are resumed."""
    is_exact: bool
    """Whether all was counted. Else `waiting` is an estimate, and more keys than that may stand still."""
    edited_at: Time | None
    """When an operator changed it. Null: it is as code declared it first."""
    actor: str | None
    changed_at: Time


class StoppedKeyDocument(TypedDict):
    """A key of an ordered group that stands still, and the job that stops it."""

    name: str
    """The group's."""
    key: str
    job_id: Id
    task: str | None
    status: str | None
    """What that job is now. Null: it was deleted."""
    reason: str | None
    is_halted: bool
    """Whether it waits until it is resumed, and not only for a redrive or a discard of that job."""
    stopped_at: Time
    waiting: int
    """Jobs that wait behind it, counted to 1,000."""


def ordered_document(group: OrderedGroup) -> OrderedGroupDocument:
    """Return an ordered group."""
    return {
        "name": group.name,
        "on_dead": group.on_dead,
        "waiting": group.waiting,
        "stopped": group.stopped,
        "halted": group.halted,
        "is_exact": group.is_exact,
        "edited_at": None if group.edited_at is None else group.edited_at.isoformat(),
        "actor": group.actor,
        "changed_at": group.changed_at.isoformat(),
    }


def stopped_document(key: StoppedKey) -> StoppedKeyDocument:
    """Return a key that stands still."""
    return {
        "name": key.name,
        "key": key.key,
        "job_id": str(key.job_id),
        "task": key.task,
        "status": None if key.status is None else key.status.value,
        "reason": key.reason,
        "is_halted": key.is_halted,
        "stopped_at": key.stopped_at.isoformat(),
        "waiting": key.waiting,
    }
