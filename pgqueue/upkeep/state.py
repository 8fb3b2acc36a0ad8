"""The state that the parts of one worker share. They read it, instead of handing each other callbacks.

A part that changes a value here also sets the event of the part that has to look. Nothing is missed, because
a part clears its event, then looks, then waits.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from pgqueue.options.run_time import Settings

REQUEST_PAUSE: Final = 0.1
"""Seconds between two looks at what operators ask for, however often it is announced."""
NOTE_PAUSE: Final = 0.02
"""Seconds between two looks at notes, however often they are announced."""


class Heard:
    """Counts what is announced: at once, and then once per *pause*: any role can announce anything."""

    def __init__(self, pause: float, wakes: asyncio.Event) -> None:
        self.count = 0
        """How often it was heeded. A count, so that each chore can tell what is news."""
        self._pause = pause
        self._wakes = wakes
        self._pausing: asyncio.TimerHandle | None = None
        """Runs out when the next one may be heeded. None: it may be now."""
        self._is_heard = False
        """Whether one was announced meanwhile."""

    def hear(self) -> None:
        """Take note of an announcement."""
        if self._pausing is None:
            self.count += 1
            self._wakes.set()
            self._pausing = asyncio.get_running_loop().call_later(self._pause, self._pause_is_over)
        else:
            self._is_heard = True

    def _pause_is_over(self) -> None:
        self._pausing = None
        if self._is_heard:
            self._is_heard = False
            self.hear()


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
    requests: Heard = field(init=False)
    """What operators ask for: a cancellation, or a change of settings."""
    notes: Heard = field(init=False)
    """Notes that nobody attends to by himself."""
    soon_due: int = 0
    """How often a job was scheduled that is due before the next round."""

    def __post_init__(self) -> None:
        """Have announcements wake the upkeep."""
        self.requests = Heard(REQUEST_PAUSE, self.upkeep)
        self.notes = Heard(NOTE_PAUSE, self.upkeep)

    @property
    def paused_tasks(self) -> frozenset[str]:
        """The tasks of which nothing may start."""
        return frozenset() if self.settings is None else self.settings.paused_tasks

    def use_lease(self, lease_id: UUID | None) -> None:
        """Claim under this lease from now on; None: there is none, so claim nothing."""
        self.lease_id = lease_id
        self.claiming.set()

    def stop(self) -> None:
        """Claim nothing more."""
        self.is_stopping = True
        self.claiming.set()
