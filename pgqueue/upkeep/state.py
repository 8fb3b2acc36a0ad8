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

    _heeding: asyncio.TimerHandle | None = None
    """Runs out when the next request may be heeded. None: it may be now."""
    _is_heard: bool = False
    """Whether a request was announced meanwhile."""

    @property
    def paused_tasks(self) -> frozenset[str]:
        """The tasks of which nothing may start."""
        return frozenset() if self.settings is None else self.settings.paused_tasks

    def hear_request(self) -> None:
        """Take note that an operator asked for something: a cancellation, or a change of settings.

        Heeded at once, and then once per REQUEST_PAUSE: any role can announce any number of requests.
        """
        if self._heeding is None:
            self._heed()
            self._heeding = asyncio.get_running_loop().call_later(REQUEST_PAUSE, self._heed_later)
        else:
            self._is_heard = True

    def _heed(self) -> None:
        self.requests += 1
        self.upkeep.set()

    def _heed_later(self) -> None:
        self._heeding = None
        if self._is_heard:
            self._is_heard = False
            self.hear_request()

    def use_lease(self, lease_id: UUID | None) -> None:
        """Claim under this lease from now on; None: there is none, so claim nothing."""
        self.lease_id = lease_id
        self.claiming.set()

    def stop(self) -> None:
        """Claim nothing more."""
        self.is_stopping = True
        self.claiming.set()
