"""Limits at run time: how much of each is in use, what waits for it, and changing it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from pgqueue.client.parts import Parts
from pgqueue.errors import InvalidOptionError, LimitNotFoundError
from pgqueue.flow.limits import MAX_KEY, slots_of
from pgqueue.flow.ordering import PREFIX
from pgqueue.model.checks import check_notes, integer, shown, storable, text
from pgqueue.model.filters import check_limit, decode_cursor, encode_cursor
from pgqueue.model.limits import MAX_LIMIT_NAME, LimitJobs, LimitKey, LimitKeyPage, LimitUse
from pgqueue.model.rates import Rate, rate_of
from pgqueue.model.unset import UNSET, Unset

MOST: Final = 1000
MOST_BUSY: Final = 100


class LimitInterface(Parts):
    """What operators see of limits, and can change. `actor` and `reason` are recorded with the limit."""

    async def limits(self, *, after: str = "", limit: int = MOST) -> list[LimitUse]:
        """Return limits by name, those after name *after*: what each has let through, and what waits for it.

        The cost is bounded, whatever waits: large numbers are estimates, and say so by `is_exact`. *limit*:
        from 1 to 1000.
        """
        integer("limits: limit", limit, least=1, most=MOST)
        if after != "":
            _check_name("limits", after)
        async with self._database.acquire() as connection:
            return await self._store.list_limits(connection, None, after, limit)

    async def get_limit(self, name: str, /) -> LimitUse:
        """Return one limit. Raises LimitNotFoundError."""
        _check_name("get_limit", name)
        async with self._database.acquire() as connection:
            found = await self._store.list_limits(connection, [name], "", 1)
        if not found:
            raise LimitNotFoundError(name)
        return found[0]

    async def limit_keys(
        self, name: str, /, *, key: str | None = None, limit: int = 100, cursor: str | None = None
    ) -> LimitKeyPage:
        """Return the keys of a limit by page, in an order of their own, or *key* alone if it is in use.

        A key that nothing has used for a day is not among them. *limit*: from 1 to 1000. *cursor*: that of
        the page before. Raises InvalidFilterError.
        """
        _check_name("limit_keys", name)
        limit, reached = check_limit(limit), decode_cursor(cursor)
        if key is not None:
            _check_key("limit_keys", key)
        if reached is None:
            return LimitKeyPage((), None)
        async with self._database.acquire() as connection:
            found = await self._store.list_limit_keys(connection, name, reached, limit, key)
        is_last = len(found) < limit or key is not None
        return LimitKeyPage([each for _, each in found], None if is_last else encode_cursor(found[-1][0]))

    async def busy_limit_keys(self, name: str, /, *, limit: int = 10) -> Sequence[LimitKey]:
        """Return the keys of a limit that most jobs wait for, most first. *limit*: from 1 to 100.

        Of more than a thousand keys, some are looked at: a key for which few jobs wait may be missing.
        """
        _check_name("busy_limit_keys", name)
        integer("busy_limit_keys: limit", limit, least=1, most=MOST_BUSY)
        async with self._database.acquire() as connection:
            return await self._store.find_busy_keys(connection, name, limit)

    async def limit_jobs(self, name: str, key: str = "", /, *, limit: int = 25) -> LimitJobs:
        """Return the jobs that hold a key of a limit, and the first that wait for it. *limit*: of each."""
        _check_name("limit_jobs", name)
        _check_key("limit_jobs", key)
        integer("limit_jobs: limit", limit, least=1, most=MOST)
        async with self._database.acquire() as connection:
            return await self._store.list_limit_jobs(connection, name, key, limit)

    async def set_limit(
        self,
        name: str,
        /,
        *,
        slots: int | None | Unset = UNSET,
        rate: Rate | None | Unset = UNSET,
        actor: str | None = None,
        reason: str | None = None,
    ) -> None:
        """Change how many jobs of each key of a limit run at once, or how many start, from now on.

        Pass one of *slots* and *rate*: a limit of the other kind becomes one of that kind. It stays so,
        whatever code declares, until `reset_limit`. Fewer than are running let none through until enough have
        ended; None lets all through. The limits of a queue have the names "queue/NAME" and "rate/NAME".
        Raises InvalidOptionError.
        """
        _check_no_group("set_limit", name)
        if isinstance(slots, Unset) == isinstance(rate, Unset):
            raise InvalidOptionError(f"limit {name!r}: pass exactly one of slots=... and rate=...")
        slots = None if isinstance(slots, Unset) or slots is None else slots_of(f"limit {name!r}", slots)
        rate = None if isinstance(rate, Unset) or rate is None else rate_of(f"limit {name!r}", rate)
        check_notes("set_limit", actor=actor, reason=reason)
        async with self._database.acquire() as connection:
            await self._store.set_limit(connection, name, slots, rate, actor=actor, reason=reason)
        self._signals.publish("attend")

    async def reset_limit(self, name: str, /, *, actor: str | None = None, reason: str | None = None) -> bool:
        """Make a limit again what code declared of it first. False: no operator had changed it.

        One that no code has declared is removed: it lets all through. Raises LimitNotFoundError.
        """
        _check_no_group("reset_limit", name)
        check_notes("reset_limit", actor=actor, reason=reason)
        async with self._database.acquire() as connection:
            changed = await self._store.reset_limit(connection, name, actor=actor, reason=reason)
        if changed is None:
            raise LimitNotFoundError(name)
        self._signals.publish("attend")
        return changed


def _check_name(verb: str, name: str) -> None:
    text(f"{verb}: the name of a limit", name, longest=MAX_LIMIT_NAME)


def _check_no_group(verb: str, name: str) -> None:
    _check_name(verb, name)
    if name.startswith(PREFIX):
        raise InvalidOptionError(f"{verb}: {shown(name)} is an ordered group: use set_ordered, or resume_key")


def _check_key(verb: str, key: str) -> None:
    storable(f"{verb}: key", key, longest=MAX_KEY)
