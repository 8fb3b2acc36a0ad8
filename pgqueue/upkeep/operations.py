"""Works on operations on many jobs, a part at a time: what bulk operations and mass redrives have in common.

An operation that fails at one job leaves it out and goes on. One that fails without any cannot be carried on.
"""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Collection
from typing import TYPE_CHECKING, ClassVar
from uuid import UUID

from pgqueue.database.failing import log_fields, statement_of
from pgqueue.database.outages import is_about_values, is_away, told
from pgqueue.events.kinds import WorkErrorIsolated
from pgqueue.upkeep.chore import Chore
from pgqueue.upkeep.tools import Tools

if TYPE_CHECKING:
    from pgqueue.database.connection import Connection

logger = logging.getLogger("pgqueue.worker")


class NotOursError(Exception):
    """The operation has ended, or other workers are at it."""


class Operations(Chore):
    """Works on operations of one kind."""

    what: ClassVar[str]
    """What the log calls one."""
    limit: ClassVar[int]
    """Jobs in one part, at most."""

    def __init__(self, tools: Tools) -> None:
        super().__init__()
        self._tools = tools
        self._broken = tools.broken_rows(self.name)

    async def _carry_on(self) -> None:
        """Do the next part of an operation, if one is due."""
        await self._broken.move(self._tools.link, self.limit, self._carry, self._find, self._skip)

    @abstractmethod
    async def _carry(self, limit: int, _: Collection[UUID]) -> int:
        """Do a part of at most *limit* jobs; return 0 if it is all for now."""

    @abstractmethod
    async def _find(self, connection: Connection, _: Collection[UUID]) -> UUID | None:
        """Return the operation that is carried on next."""

    @abstractmethod
    async def _leave_out(self, operation_id: UUID) -> UUID | None:
        """Leave out the job that an operation comes to next; return it, or None if there is none.

        Raises NotOursError.
        """

    @abstractmethod
    async def _stop(self, operation_id: UUID) -> None:
        """End an operation that cannot be carried on."""

    async def _skip(self, operation_id: UUID, error: Exception) -> bool:
        """Leave out the job at which an operation fails; end one that fails without one.

        Raises *error* if it may be about all rows: then the operation waits, and so do others.
        """
        if not is_about_values(error):
            raise error
        job_id: UUID | None = None
        try:
            job_id = await self._leave_out(operation_id)
        except NotOursError:
            return True
        except Exception as second:
            if is_away(second):
                raise
        if job_id is None:
            await self._stop(operation_id)
        logger.error(
            "%s %s %s (%s)",
            self.what,
            operation_id,
            "was stopped, because it cannot be carried on" if job_id is None else f"leaves job {job_id} out",
            told(error),
            extra=log_fields(error),
        )
        self._tools.observers.emit(
            WorkErrorIsolated(self.name, type(error).__name__, statement=statement_of(error))
        )
        return True
