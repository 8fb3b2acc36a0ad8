"""Connects to one of the hosts that a DSN names, in their order, each with its share of the time.

asyncpg gives the whole time to the first host: one that takes connections and never answers (a frozen server,
a firewall) kept all others from being asked. A host that did not answer lately is asked last.

Where the DSN does not say what is wanted, it is a server that takes writes: after a failover the first host
may be the old primary, as a standby of the new one. A standby is used while there is no other.

An old primary that nobody has stopped still takes writes, and would be found first. Each promotion begins
another timeline of the cluster. So a server that takes writes is used only if its timeline is as new as any
that this process has seen, and the other hosts are looked at now and then.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Collection, Sequence
from contextlib import suppress
from inspect import signature
from typing import Any, Final, cast

import asyncpg
from asyncpg import connect_utils

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

Address = tuple[str, int] | str
"""A host and its port, or the path of a socket."""


class Hosts:
    """The hosts of one DSN, as one process knows them. Safe in any thread."""

    def __init__(self) -> None:
        self._read: tuple[Sequence[Address], str] | None = None
        self._hung_until: dict[Address, float] = {}
        self._timelines: dict[Address, tuple[str, int]] = {}
        """The cluster of each server that took writes, and its timeline, when it was last asked."""
        self._newest: dict[str, int] = {}
        """The newest timeline of each cluster."""

    async def connect(
        self,
        *,
        timeout: float,  # noqa: ASYNC109  # divided among the hosts
        **arguments: Any,
    ) -> asyncpg.Connection[asyncpg.Record]:
        """Open a connection as `asyncpg.connect` does, within *timeout* seconds. Raises what that raises."""
        if self._read is None:
            self._read = _read(arguments)
        addresses, wants = self._read
        if len(addresses) < 2:
            only: asyncpg.Connection[asyncpg.Record] = await asyncpg.connect(timeout=timeout, **arguments)
            return only
        ends_at = time.monotonic() + timeout
        if wants != "any":
            return await self._try_each(addresses, wants, ends_at, arguments)
        try:
            return await self._try_each(addresses, "read-write", ends_at, arguments)
        except asyncpg.TargetServerAttributeNotMatched:
            return await self._try_each(addresses, "any", ends_at, arguments)

    @property
    def are_several(self) -> bool:
        """Whether there are several, of which one takes writes and is meant. Known once one was connected."""
        return self._read is not None and len(self._read[0]) > 1 and self._read[1] in WRITING

    async def look(self, in_use: Collection[object], **arguments: Any) -> None:
        """Ask the hosts that are not *in_use* whether they take writes, and since which promotion."""
        assert self._read is not None
        for address in self._read[0]:
            if address not in in_use:
                # A standby, an old primary, or none at all says no.
                with suppress(
                    OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError
                ):
                    (await self._try(address, "read-write", LOOK_WITHIN, arguments)).terminate()

    def is_old(self, address: object) -> bool:
        """Whether another server was promoted in the place of the one at *address*."""
        cluster, timeline = self._timelines.get(cast("Address", address), ("", 0))
        return timeline < self._newest.get(cluster, 0)

    async def _try_each(
        self, addresses: Sequence[Address], wants: str, ends_at: float, arguments: dict[str, Any]
    ) -> asyncpg.Connection[asyncpg.Record]:
        if wants == "prefer-standby":
            try:
                return await self._try_each(addresses, "standby", ends_at, arguments)
            except asyncpg.TargetServerAttributeNotMatched:
                wants = "any"
        error: BaseException | None = None
        ordered = self._in_order(addresses)
        for place, address in enumerate(ordered):
            share = (ends_at - time.monotonic()) / (len(ordered) - place)
            try:
                return await self._try(address, wants, share, arguments)
            except asyncpg.TargetServerAttributeNotMatched as other:
                # It answers. That says more than that others do not.
                error = other
            except (OSError, asyncpg.CannotConnectNowError) as other:
                if not isinstance(error, asyncpg.TargetServerAttributeNotMatched):
                    error = other
        assert error is not None
        raise error

    async def _try(
        self, address: Address, wants: str, share: float, arguments: dict[str, Any]
    ) -> asyncpg.Connection[asyncpg.Record]:
        # A path has its port in it.
        host, port = (address, 5432) if isinstance(address, str) else address
        began_at = time.monotonic()
        try:
            async with asyncio.timeout(max(share, 0.01)):
                connection: asyncpg.Connection[asyncpg.Record] = await asyncpg.connect(
                    **{**arguments, "host": host, "port": port, "target_session_attrs": wants},
                    timeout=max(share, 0.01),
                )
                try:
                    await self._check_timeline(connection, address)
                except BaseException:
                    connection.terminate()
                    raise
        except (TimeoutError, asyncio.CancelledError):
            if time.monotonic() - began_at >= min(HUNG_AFTER, share):
                self._hung_until[address] = time.monotonic() + HUNG_FOR
            raise
        self._hung_until.pop(address, None)
        return connection

    async def _check_timeline(self, connection: asyncpg.Connection[asyncpg.Record], address: Address) -> None:
        """Raise if the server takes writes although another one was promoted in its place."""
        # No schema is named in it.
        sql = load_statements("pgqueue")
        try:
            row = await connection.fetchrow(sql["read_timeline"])
        except asyncpg.PostgresError as error:
            # A service like PostgreSQL, which has none, or does not say.
            logger.debug("the timeline of %s is unknown: %s", address, error)
            return
        if row is None:
            return
        cluster, timeline = row["cluster"], row["timeline"]
        self._timelines[address] = cluster, timeline
        newest = self._newest[cluster] = max(timeline, self._newest.get(cluster, 0))
        if timeline < newest:
            raise asyncpg.TargetServerAttributeNotMatched(
                f"the server at {address} takes writes on timeline {timeline}, but another was promoted in "
                f"its place (timeline {newest}); stop the old one"
            )

    def _in_order(self, addresses: Sequence[Address]) -> list[Address]:
        now = time.monotonic()
        return sorted(addresses, key=lambda address: self._hung_until.get(address, 0.0) > now)


def _read(arguments: dict[str, Any]) -> tuple[Sequence[Address], str]:
    """Return the addresses that *arguments* of `asyncpg.connect` name, and which kind of server they want."""
    # Nothing else knows what asyncpg makes of a DSN, options and the environment.
    read: Any = vars(connect_utils)["_parse_connect_dsn_and_args"]
    addresses, parameters = read(**{name: arguments.get(name) for name in signature(read).parameters})
    wanted = parameters.target_session_attrs
    return addresses, "any" if wanted is None else str(getattr(wanted, "value", wanted))
