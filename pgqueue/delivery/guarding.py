"""Refuses connections to addresses that are nobody's on the internet, where a job has chosen the URL.

A name says nothing about where it leads, and may lead elsewhere each time that it is asked for. So what is
looked at is the address of the connection itself, once it is there and before anything is sent.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pgqueue.delivery.addresses import is_public


class PrivateAddressError(Exception):
    """A name leads to an address that is not of the internet."""

    def __init__(self, address: str) -> None:
        self.address = address
        super().__init__(address)


class PublicOnly:
    """What httpx tells of one request: it is to *host*, or to a proxy, which then decides itself."""

    def __init__(self, host: str) -> None:
        self._host = host
        self._is_direct = True

    async def __call__(self, event: str, told: Mapping[str, Any]) -> None:
        """Look at a connection. Raises PrivateAddressError, and closes it."""
        if event == "connection.connect_tcp.started":
            self._is_direct = told["host"] == self._host
        elif event == "connection.connect_tcp.complete" and self._is_direct:
            stream = told["return_value"]
            found = stream.get_extra_info("server_addr")
            address = str(found[0]) if found else "an unknown address"
            if not is_public(address):
                await stream.aclose()
                raise PrivateAddressError(address)
