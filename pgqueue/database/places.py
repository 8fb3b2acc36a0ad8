"""Where servers are: the addresses of the hosts that a DSN names, and connections to one of them.

A name may have several addresses, of which one does not answer, or is a standby's. asyncpg and the event loop
would try them in turn, within the time of a single host, and stay with the first that takes connections. So
each is connected to by itself. It is the name that certificates are checked against, and that proxies route
by (SNI).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, Final

from pgqueue.database.resolving import Addresses, find_addresses

OF_ONE_NAME: Final = 0.9
"""The share of the time that is for finding the addresses, where there is but one host."""
OF_SEVERAL: Final = 0.5
"""The same, where others can be asked."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a server is."""

    host: str
    """A name, the number of an address, or the path of a socket."""
    port: int
    number: str | None = None
    """The address of the name; None: *host* is none."""

    def __str__(self) -> str:
        if self.host.startswith("/"):
            return self.host
        shown = f"{self.host}:{self.port}"
        return shown if self.number is None else f"{shown} ({self.number})"


async def find_places(hosts: Sequence[tuple[str, int] | str], *, within: float) -> list[Place]:
    """Return where the servers of *hosts* are: of each its addresses, in the order of the hosts.

    Raises OSError if no host has an address. Takes *within* seconds at most, and half of them where others
    can be asked.
    """
    if not any(is_name(host) for host in hosts):
        return [place for host in hosts for place in _places_at(host, ())]
    patience = within * (OF_ONE_NAME if len(hosts) == 1 else OF_SEVERAL)

    async def find(host: tuple[str, int] | str) -> list[Place]:
        addresses = await find_addresses(host[0], within=patience) if is_name(host) else ()
        return _places_at(host, addresses)

    places: list[Place] = []
    error: BaseException | None = None
    for found in await asyncio.gather(*map(find, hosts), return_exceptions=True):
        if isinstance(found, BaseException):
            if not isinstance(found, OSError):
                # UnicodeError: it can be no name.
                raise found
            error = error or found
        else:
            places += found
    if not places:
        assert error is not None
        raise error
    return places


def is_name(host: tuple[str, int] | str) -> bool:
    """Whether *host* has to be asked for its addresses: it is neither a path nor a number."""
    if isinstance(host, str):
        return False
    try:
        ip_address(host[0])
    except ValueError:
        return True
    return False


def _places_at(host: tuple[str, int] | str, addresses: Addresses) -> list[Place]:
    if isinstance(host, str):
        # A path has its port in it.
        return [Place(host, 5432)]
    return [Place(*host, number) for number in addresses] if is_name(host) else [Place(*host)]


class LoopToPlace:
    """The event loop, as asyncpg is to see it: whoever connects to a name comes to one of its addresses.

    The connection keeps it. asyncpg cancels a statement over another one, which must reach the same server.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, number: str) -> None:
        self._loop = loop
        self._number = number

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._loop, name)
        # It is found faster the next time.
        setattr(self, name, value)
        return value

    async def create_connection(
        self, protocol: Callable[[], Any], host: str, port: int, *, ssl: Any = None
    ) -> tuple[Any, Any]:
        """Connect to the address, and check its certificate against the name."""
        return await self._loop.create_connection(
            protocol, self._number, port, ssl=ssl, server_hostname=host if ssl else None
        )
