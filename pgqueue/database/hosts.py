"""Connects to one of the servers that a DSN names, in their order, each with its share of the time.

asyncpg gives the whole time to the first host: one that takes connections and never answers (a frozen server,
a firewall) kept all others from being asked. A server that did not answer lately is asked last. A name may
have several addresses, each of which counts as a server: see `places`.

Where the DSN does not say what is wanted, it is a server that takes writes: after a failover the first host
may be the old primary, as a standby of the new one. A standby is used while there is no other.

An old primary that nobody has stopped still takes writes, and would be found first. Each promotion begins
another timeline of the cluster. So a server that takes writes is used only if its timeline is as new as any
that this process has seen, and the other servers are looked at now and then.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from inspect import signature
from typing import Any, Final

import asyncpg
from asyncpg import connect_utils

from pgqueue.database.connection import OwnConnection
from pgqueue.database.places import LoopToPlace, Place, find_places
from pgqueue.database.sql import load_statements

logger = logging.getLogger("pgqueue.database")

HUNG_FOR: Final = 30.0
"""Seconds for which a host that did not answer is asked last."""
HUNG_AFTER: Final = 0.5
"""Seconds without an answer after which a host counts as one that does not, if its caller waits no longer."""

WRITING: Final = frozenset({"any", "read-write", "primary"})
"""What a DSN may want (unset: any), if it means the server that takes writes."""
LOOK_WITHIN: Final = 2.0
"""Seconds that another host has to answer what its timeline is."""

LOOK_AGAIN: Final = 60.0
"""Seconds until a place is looked at again where the server answered that is in use."""

MOST_SHARES: Final = 4
"""Into how many shares the time is divided at most: a name may have a dozen addresses."""


@dataclass(frozen=True, slots=True)
class _Seen:
    """What a server that took writes said when it was last asked."""

    cluster: str
    timeline: int
    began_at: datetime
    """When it was started: the same server has the same answers, wherever it is asked."""


def share_of(seconds: float, left: int) -> float:
    """Return how much of the *seconds* is for the next of the servers that are *left* to be asked."""
    return seconds / min(left, MOST_SHARES)


class Hosts:
    """The servers of one DSN, as one process knows them. Safe in any thread."""

    def __init__(self) -> None:
        self._read: tuple[Sequence[tuple[str, int] | str], str] | None = None
        self._places: Sequence[Place] = ()
        """Where servers were when it was last asked."""
        self._hung_until: dict[Place, float] = {}
        self._seen: dict[object, _Seen] = {}
        self._look_at: dict[object, float] = {}
        self._newest: dict[str, int] = {}
        """The newest timeline of each cluster."""

    async def connect(
        self,
        *,
        timeout: float,  # noqa: ASYNC109  # divided among the servers
        **arguments: Any,
    ) -> asyncpg.Connection[asyncpg.Record]:
        """Open a connection as `asyncpg.connect` does, within *timeout* seconds. Raises what that raises."""
        if self._read is None:
            self._read = _read(arguments)
        ends_at = time.monotonic() + timeout
        hosts, wants = self._read
        places = self._places = await find_places(hosts, within=timeout)
        if len(places) == 1:
            return await _open(places[0], ends_at - time.monotonic(), arguments, is_only=True)
        if wants != "any":
            return await self._try_each(places, wants, ends_at, arguments)
        try:
            return await self._try_each(places, "read-write", ends_at, arguments)
        except asyncpg.TargetServerAttributeNotMatched:
            return await self._try_each(places, "any", ends_at, arguments)

    @property
    def are_several(self) -> bool:
        """Whether there are several, of which one takes writes and is meant. Known once one was connected."""
        return self._read is not None and len(self._places) > 1 and self._read[1] in WRITING

    async def look(self, in_use: Collection[object], **arguments: Any) -> None:
        """Ask the servers that are not *in_use* whether they take writes, and since which promotion."""
        assert self._read is not None
        here = {self._seen.get(used) for used in in_use} - {None}
        if not here:
            # A standby, or a service that does not tell its timeline: nothing is to be compared.
            return
        try:
            places = self._places = await find_places(self._read[0], within=LOOK_WITHIN)
        except OSError as error:
            logger.debug("no other server was looked at: %s", error)
            return
        for gone in (self._seen.keys() | self._look_at.keys()) - {*places, *in_use}:
            self._seen.pop(gone, None)
            self._look_at.pop(gone, None)
        for place in places:
            if place in in_use or self._look_at.get(place, 0.0) > time.monotonic():
                continue
            # A standby, an old primary, or none at all says no.
            with suppress(
                OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError
            ):
                (await self._try(place, "read-write", LOOK_WITHIN, arguments)).terminate()
            if self._seen.get(place) in here:
                # A name's IPv4 and IPv6 address, for example.
                self._look_at[place] = time.monotonic() + LOOK_AGAIN

    def is_old(self, place: object) -> bool:
        """Whether another server was promoted in the place of the one at *place*."""
        seen = self._seen.get(place)
        return seen is not None and seen.timeline < self._newest[seen.cluster]

    async def _try_each(
        self, places: Sequence[Place], wants: str, ends_at: float, arguments: dict[str, Any]
    ) -> asyncpg.Connection[asyncpg.Record]:
        if wants == "prefer-standby":
            try:
                return await self._try_each(places, "standby", ends_at, arguments)
            except asyncpg.TargetServerAttributeNotMatched:
                wants = "any"
        error: BaseException | None = None
        ordered = self._in_order(places)
        for number, place in enumerate(ordered):
            share = share_of(ends_at - time.monotonic(), len(ordered) - number)
            try:
                return await self._try(place, wants, share, arguments)
            except asyncpg.TargetServerAttributeNotMatched as other:
                # It answers. That says more than that others do not.
                error = other
            except (OSError, asyncpg.CannotConnectNowError, asyncpg.ConnectionDoesNotExistError) as other:
                # The last: it took the connection and hung up, as a balancer with no server behind it does.
                if not isinstance(error, asyncpg.TargetServerAttributeNotMatched):
                    error = other
        assert error is not None
        raise error

    async def _try(
        self, place: Place, wants: str, share: float, arguments: dict[str, Any]
    ) -> asyncpg.Connection[asyncpg.Record]:
        began_at = time.monotonic()
        try:
            async with asyncio.timeout(max(share, 0.01)):
                connection = await _open(place, share, {**arguments, "target_session_attrs": wants})
                try:
                    await self._check_timeline(connection, place)
                except BaseException:
                    connection.terminate()
                    raise
        except (TimeoutError, asyncio.CancelledError):
            if time.monotonic() - began_at >= min(HUNG_AFTER, share):
                self._hung_until[place] = time.monotonic() + HUNG_FOR
            raise
        self._hung_until.pop(place, None)
        return connection

    async def _check_timeline(self, connection: asyncpg.Connection[asyncpg.Record], place: Place) -> None:
        """Raise if the server takes writes although another one was promoted in its place."""
        # No schema is named in it.
        sql = load_statements("pgqueue")
        try:
            row = await connection.fetchrow(sql["read_timeline"])
        except asyncpg.PostgresError as error:
            # A service like PostgreSQL, which has none, or does not say.
            logger.debug("the timeline of %s is unknown: %s", place, error)
            return
        if row is None:
            self._seen.pop(place, None)
            return
        cluster, timeline = row["cluster"], row["timeline"]
        self._seen[place] = _Seen(cluster, timeline, row["began_at"])
        newest = self._newest[cluster] = max(timeline, self._newest.get(cluster, 0))
        if timeline < newest:
            raise asyncpg.TargetServerAttributeNotMatched(
                f"the server at {place} takes writes on timeline {timeline}, but another was promoted in "
                f"its place (timeline {newest}); stop the old one"
            )

    def _in_order(self, places: Sequence[Place]) -> list[Place]:
        now = time.monotonic()
        for place in [place for place, until in list(self._hung_until.items()) if until <= now]:
            self._hung_until.pop(place, None)
        return sorted(places, key=lambda place: place in self._hung_until)


async def _open(
    place: Place, within: float, arguments: dict[str, Any], *, is_only: bool = False
) -> asyncpg.Connection[asyncpg.Record]:
    if not is_only:
        arguments = {**arguments, "host": place.host, "port": place.port}
    if place.number is not None:
        arguments = {**arguments, "loop": LoopToPlace(asyncio.get_running_loop(), place.number)}
    connection: asyncpg.Connection[asyncpg.Record] = await asyncpg.connect(
        **arguments, timeout=max(within, 0.01)
    )
    if isinstance(connection, OwnConnection):
        connection.place = place
    return connection


def _read(arguments: dict[str, Any]) -> tuple[Sequence[tuple[str, int] | str], str]:
    """Return the hosts that *arguments* of `asyncpg.connect` name, and which kind of server they want."""
    # Nothing else knows what asyncpg makes of a DSN, options and the environment.
    read: Any = vars(connect_utils)["_parse_connect_dsn_and_args"]
    hosts, parameters = read(**{name: arguments.get(name) for name in signature(read).parameters})
    wanted = parameters.target_session_attrs
    return hosts, "any" if wanted is None else str(getattr(wanted, "value", wanted))
