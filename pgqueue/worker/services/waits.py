"""Has a job wait for a time or an event: what has come to be stands in a step, or the attempt is suspended.

What a wait came to is stored once, by the statement that looks: a list of the event's value, or an empty list
if the time was over. A handler that runs again gets what its first run got, whatever has come since.
"""

from __future__ import annotations

from uuid import UUID

from pgqueue.database.patience import persist
from pgqueue.database.pool import Database
from pgqueue.errors import InvalidStepError, LeaseLostError
from pgqueue.model.outcomes import Suspended
from pgqueue.store import Place, Store, Wait
from pgqueue.worker.services.steps import Steps

TIMED_OUT = "[]"


class Waits:
    """The waits of one attempt."""

    def __init__(
        self, database: Database, store: Store, steps: Steps, *, job_id: UUID, lease_id: UUID
    ) -> None:
        self._database = database
        self._store = store
        self._steps = steps
        self._job_id = job_id
        self._lease_id = lease_id

    async def settle(
        self,
        name: str,
        event: str | None,
        timeout: float | None,  # noqa: ASYNC109  # the job's, and not this call's
    ) -> str | None | Suspended:
        """Return the value, as stored, of the event that wait *name* is for, or None if its time is over.

        Or how the job is to wait, if it is to.
        """
        kind = "sleep" if event is None else "event"
        stored, place = await self._steps.begin(kind, name, f"{name}/until")
        if stored is None:
            wait = await persist(
                f"job {self._job_id}: wait {name!r}", lambda: self._ask(name, event, timeout, place)
            )
            if not wait.is_held:
                raise LeaseLostError(
                    f"job {self._job_id}: the lease was lost before wait {name!r}; another attempt will wait"
                )
            if wait.outcome is None:
                return Suspended(self._job_id, wait.wake_at, wait.wakes_in, event)
            stored = wait.outcome
        if not stored.startswith("["):
            raise InvalidStepError(
                f"job {self._job_id}: {name!r} was a step in an earlier attempt and is a wait now; give the "
                "wait another name"
            )
        return None if stored == TIMED_OUT else stored[1:-1]

    async def _ask(
        self,
        name: str,
        event: str | None,
        timeout: float | None,  # noqa: ASYNC109  # as above
        place: Place,
    ) -> Wait:
        async with self._database.acquire() as connection:
            return await self._store.settle_wait(
                connection, self._job_id, self._lease_id, name, event, timeout, place
            )
