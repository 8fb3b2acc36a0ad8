"""What the chores of one worker work with."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

from pgqueue.database.link import Link
from pgqueue.events.observers import Observers
from pgqueue.store import FirstOf, Store
from pgqueue.upkeep.announcing import Announcer
from pgqueue.upkeep.broken_rows import BrokenRows
from pgqueue.upkeep.state import WorkerState

if TYPE_CHECKING:
    from pgqueue.database.connection import Connection


@dataclass(frozen=True, slots=True)
class Tools:
    """What the chores of one worker share."""

    store: Store
    link: Link
    observers: Observers
    announcer: Announcer
    state: WorkerState
    worker: str

    def committed(self, *, ended: Collection[UUID] = (), ready: Iterable[int] = ()) -> None:
        """Tell of what a chore has moved, and have its notes attended to."""
        self.announcer.committed(ended=ended, ready=ready)
        self.announcer.noted(None)

    def first_of(self, chore: FirstOf) -> Callable[[Connection, Collection[UUID]], Awaitable[UUID | None]]:
        """Make what finds the job with which a batch of a chore begins, but for some."""

        async def find(connection: Connection, without: Collection[UUID]) -> UUID | None:
            return await self.store.find_first(connection, chore, without)

        return find

    def broken_rows(self, doing: str) -> BrokenRows:
        """Make what sets rows aside at which a chore fails."""
        return BrokenRows(doing, self.store, self.announcer, self.observers, worker=self.worker)
