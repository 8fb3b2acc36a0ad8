"""One chore of the upkeep: a small unit with its own statement, interval and errors. `rounds` runs them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Final

from pgqueue.database.patience import Reminder

TICK: Final = 1.0
"""Seconds between two runs of most chores."""


class Chore(ABC):
    """Something that any worker does for all, any number of them at once.

    Its statement is idempotent and skips rows that another worker has locked, so nothing needs a leader. It
    may fail: the round logs that, tries again later, and goes on with the other chores.
    """

    name: str
    """What the log calls it, such as "expiring jobs"."""

    def __init__(self) -> None:
        self.due_at = 0.0
        """The monotonic time from which on it is to be done."""
        self.failures = 0
        """How often it has failed since it last succeeded."""
        self.reminder = Reminder()

    @abstractmethod
    async def run(self) -> float:
        """Do it once; return the seconds until it is due again. 0: there may be more to do now."""

    @property
    def is_called_for(self) -> bool:
        """Whether it is to be done now, before it is due."""
        return False

    def forget(self) -> None:
        """Forget what was observed: a run failed or the database was unavailable, so it may be wrong now."""
        return
