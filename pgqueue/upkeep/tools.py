"""What the chores of one worker work with."""

from __future__ import annotations

from dataclasses import dataclass

from pgqueue.database.pool import Link
from pgqueue.events.observers import Observers
from pgqueue.store import Store
from pgqueue.upkeep.announcing import Announcer
from pgqueue.upkeep.state import WorkerState


@dataclass(frozen=True, slots=True)
class Tools:
    """What the chores of one worker share."""

    store: Store
    link: Link
    observers: Observers
    announcer: Announcer
    state: WorkerState
