"""Carries out requests to cancel running jobs.

A request names the lease under which the job ran. Its worker stops the attempt. If the attempt ends otherwise
first, the request is carried out or dropped here, by any worker.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final, Protocol
from uuid import UUID

from pgqueue.events.kinds import JobsCancelled
from pgqueue.upkeep.chore import TICK, Chore
from pgqueue.upkeep.tools import Tools

LIMIT: Final = 1000
"""Requests that one statement carries out."""


class Attempts(Protocol):
    """The attempts of a worker, as far as they can be cancelled."""

    def cancel(self, job_ids: Collection[UUID]) -> None:
        """Stop the attempts of these jobs: the jobs are to be cancelled."""


class Cancelling(Chore):
    """Carries out requests to cancel."""

    name = "carrying out cancellations"

    def __init__(self, tools: Tools, attempts: Attempts) -> None:
        super().__init__()
        self._tools = tools
        self._broken = tools.broken_rows(self.name)
        self._attempts = attempts
        self._heard = 0

    @property
    def is_called_for(self) -> bool:
        """Whether a request was announced since the last run."""
        return self._heard != self._tools.state.requests.count

    async def run(self) -> float:
        """Carry out the requests that there are."""
        tools = self._tools
        self._heard = tools.state.requests.count
        own = tools.state.lease_id
        if own is not None:
            async with tools.link.use() as connection:
                self._attempts.cancel(await tools.store.find_cancel_requests(connection, own))
        is_more = await self._broken.move(tools.link, LIMIT, self._carry_out, tools.first_of("cancel"))
        return 0.0 if is_more else TICK

    async def _carry_out(self, limit: int, without: Collection[UUID]) -> int:
        tools = self._tools
        async with tools.link.use() as connection:
            carried_out, settled = await tools.store.carry_out_cancels(connection, limit, without)
        for job, reason in carried_out:
            tools.committed(ended=[job.job_id])
            tools.observers.emit(JobsCancelled([job], reason))
        return settled
