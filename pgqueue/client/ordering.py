"""Ordered groups: which keys stand still, and how they go on."""

from __future__ import annotations

from typing import Final, get_args

from pgqueue.client.parts import Parts
from pgqueue.errors import InvalidOptionError
from pgqueue.flow.ordering import MAX_NAME, PREFIX, OnDead, stored_key
from pgqueue.model.checks import check_notes, integer, shown, text
from pgqueue.model.ordering import OrderedGroup, StoppedKey

MOST_LISTED: Final = 1000


class OrderingInterface(Parts):
    """What operators see and change of ordered groups."""

    async def ordered_groups(self) -> list[OrderedGroup]:
        """Return all ordered groups, by name: how many jobs wait, and how many keys stand still.

        The cost is bounded, whatever waits: large numbers are estimates, and say so by `is_exact`.
        """
        async with self._database.acquire() as connection:
            return await self._store.list_ordered(connection)

    async def stopped_keys(
        self, name: str | None = None, *, limit: int = 100, after: StoppedKey | None = None
    ) -> list[StoppedKey]:
        """Return keys that stand still behind a job that has failed or expired, by group and key.

        *name*: those of this group. *limit*: from 1 to 1000. *after*: the last one of the page before. Raises
        InvalidOptionError.
        """
        if name is not None:
            _check_name("stopped_keys", name)
        if after is not None and not isinstance(after, StoppedKey):
            raise InvalidOptionError(f"stopped_keys: after must be a StoppedKey, got {shown(after)}")
        integer("stopped_keys: limit", limit, least=1, most=MOST_LISTED)
        async with self._database.acquire() as connection:
            return await self._store.list_stopped(
                connection,
                None if name is None else PREFIX + name,
                limit,
                None if after is None else (PREFIX + after.name, after.key),
            )

    async def resume_key(
        self, name: str, key: object = "", /, *, reason: str | None = None, actor: str | None = None
    ) -> bool:
        """Let a key of an ordered group go on past what stops it; False: it does not stand still.

        The jobs that stopped it stay as they are; one that was redriven is the next to run. *key*: the value
        of the argument, or what the function returned; "" for a group without keys. Raises
        InvalidOptionError, ConfigurationError.
        """
        _check_name("resume_key", name)
        check_notes("resume_key", actor=actor, reason=reason)
        rule, stored = PREFIX + name, stored_key(name, key)
        async with self._database.acquire() as connection:
            resumed = await self._store.resume_key(connection, rule, stored, reason=reason, actor=actor)
        return resumed > 0

    async def set_ordered(self, name: str, /, *, on_dead: OnDead, actor: str | None = None) -> None:
        """Change what becomes of the jobs behind one that fails or expires from now on.

        It stays so, whatever code declares. Keys that stand still already go on by `resume_key`. Raises
        InvalidOptionError.
        """
        _check_name("set_ordered", name)
        if on_dead not in get_args(OnDead):
            raise InvalidOptionError(
                f"set_ordered: on_dead must be 'block', 'skip' or 'halt', got {shown(on_dead)}"
            )
        check_notes("set_ordered", actor=actor)
        async with self._database.acquire() as connection:
            await self._store.set_ordered(connection, PREFIX + name, on_dead, actor)


def _check_name(verb: str, name: str) -> None:
    text(f"{verb}: the name of an ordered group", name, longest=MAX_NAME)
