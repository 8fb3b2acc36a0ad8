"""What handlers may hold or count in their middle, as a PgQueue makes it. See pgqueue/tasks/limiters.py."""

from __future__ import annotations

from typing import Final

from pgqueue.client.parts import Parts
from pgqueue.model.checks import Duration, integer
from pgqueue.model.limiters import LimiterUse
from pgqueue.tasks import limiters
from pgqueue.tasks.limiters import Limiter

MOST: Final = 1000


class LimiterInterface(Parts):
    """Makes what handlers hold, or count."""

    def mutex(self, name: str, /, *, wait: Duration | None = None, raise_on_failure: bool = True) -> Limiter:
        """Return what one job at a time holds, in a block of its handler.

            async with pgq.mutex("ledger"):
                await book(entry)

        In a handler that is not async: `with pgq.mutex(...)`. It is given back when the block ends, or with
        the attempt, however that ends: it has no time of its own, and a lost worker's is free with the rescue
        of its jobs. Jobs come in the order in which they asked; no connection is held meanwhile. *wait*: the
        seconds to wait for it; None: for as long as the attempt may run; 0: not at all. If it does not come
        in time the block raises LimiterFullError; with *raise_on_failure* False it is entered all the same,
        and `as` gives False. Raises InvalidOptionError; entering raises ContextError (outside of a job; in a
        block of the same name), LeaseLostError.
        """
        return limiters.slots(self, "mutex", name, 1, wait, raise_on_failure)

    def concurrent(
        self,
        name: str,
        /,
        *,
        slots: int,
        wait: Duration | None = None,
        raise_on_failure: bool = True,
    ) -> Limiter:
        """Return what *slots* blocks of handlers hold at once, over all workers. See `mutex`.

        *slots*: at most 10,000, as this call says: another one may say another number for the same name.
        """
        return limiters.slots(self, "concurrent", name, slots, wait, raise_on_failure)

    def bucket(
        self,
        name: str,
        /,
        *,
        limit: int,
        per: Duration,
        wait: Duration | None = None,
        raise_on_failure: bool = True,
    ) -> Limiter:
        """Return what handlers enter at most *limit* times at once, and as often again in each *per*.

        A token bucket: it is full at first, and *limit* tokens come back evenly in each *per* (seconds). In
        the database's time, over all workers. Nothing is held: a block that was entered has been counted.
        *wait* and *raise_on_failure* as in `mutex`.
        """
        return limiters.times(self, "bucket", name, limit, per, wait, raise_on_failure)

    def window(
        self,
        name: str,
        /,
        *,
        limit: int,
        per: Duration,
        wait: Duration | None = None,
        raise_on_failure: bool = True,
    ) -> Limiter:
        """Return what handlers enter at most *limit* times in any *per* (seconds).

        A sliding window, counted in hundredths of *per*: never more, and up to a hundredth of *per* later
        than could be. Nothing is held, as in `bucket`.
        """
        return limiters.times(self, "window", name, limit, per, wait, raise_on_failure)

    async def limiters(self, *, limit: int = 100) -> list[LimiterUse]:
        """Return the limiters that running jobs hold or wait for: by whom, those that most wait for first.

        One that nobody holds and nobody waits for is not among them. *limit*: from 1 to 1000.
        """
        integer("limiters: limit", limit, least=1, most=MOST)
        async with self._database.acquire() as connection:
            return await self._store.list_limiters(connection, limit)
