"""The state that the parts of one worker share. They read it, instead of handing each other callbacks.

A part that changes a value here also sets the event of the part that has to look. Nothing is missed, because
a part clears its event, then looks, then waits.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from uuid import UUID

from pgqueue.options.run_time import Settings


@dataclass(slots=True, eq=False)
class WorkerState:
    """The state of one worker that more than one of its parts needs. Belongs to the worker's event loop."""

    lease_id: UUID | None = None
    """The lease that it holds now."""
    settings: Settings | None = None
    """Pauses and run-time options. None: not read yet, so nothing may start."""
    is_stopping: bool = False
    """It claims nothing more."""
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once it holds a lease, knows the settings, and claims."""
    claiming: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the claimer has to look: a slot is free, outcomes are written, lease or settings changed."""
    upkeep: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when a chore has to be done before its interval is over."""
    requests: int = 0
    """How often operators' requests were announced. A count, so that each chore can tell what is news."""
    soon_due: int = 0
    """How often a job was scheduled that is due before the next round."""

    @property
    def paused_tasks(self) -> frozenset[str]:
        """The tasks of which nothing may start."""
        return frozenset() if self.settings is None else self.settings.paused_tasks

    def hear_request(self) -> None:
        """Take note that an operator asked for something: a cancellation, or a change of settings."""
        self.requests += 1
        self.upkeep.set()

    def use_lease(self, lease_id: UUID | None) -> None:
        """Claim under this lease from now on; None: there is none, so claim nothing."""
        self.lease_id = lease_id
        self.claiming.set()

    def stop(self) -> None:
        """Claim nothing more."""
        self.is_stopping = True
        self.claiming.set()
