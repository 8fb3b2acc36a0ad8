"""Where jobs may send requests: URLs, and lists of the origins that are allowed. Values only.

A URL that a job brings along is somebody else's choice, and what a worker can reach is more than its callers
can: the metadata of the cloud, the databases. So a task takes URLs only from origins that it lists.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final, NamedTuple
from urllib.parse import SplitResult, urlsplit

from pgqueue.errors import InvalidTaskError
from pgqueue.model.checks import shown

MAX_URL: Final = 2048
_PORTS: Final = {"http": 80, "https": 443}
_HOST: Final = re.compile(r"[a-z0-9_.\-]+|[0-9a-f:.]+")
_NAT64: Final = ip_network("64:ff9b::/96")
_UNPRINTABLE: Final = re.compile(r"[\x00-\x20\x7f-\xa0\\]")


class Origin(NamedTuple):
    """A scheme, a host and a port. A host that begins with `*.` stands for all names below it."""

    scheme: str
    host: str
    port: int

    def takes(self, other: Origin) -> bool:
        """Return whether *other* is this origin, or one that it stands for."""
        if self.host.startswith("*."):
            is_below = other.host.endswith(self.host[1:]) and len(other.host) > len(self.host) - 1
            return is_below and (self.scheme, self.port) == (other.scheme, other.port)
        return self == other

    def __str__(self) -> str:
        port = "" if self.port == _PORTS[self.scheme] else f":{self.port}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}{port}"


def origin_of(url: object) -> Origin:
    """Return the origin of a URL that a request can be sent to. Raises ValueError, which says why not."""
    if not isinstance(url, str) or not url:
        raise ValueError(f"a URL must be a string like 'https://api.example.com/charge', got {shown(url)}")
    if len(url) > MAX_URL:
        raise ValueError(f"a URL must be at most {MAX_URL} characters long, got {len(url)}")
    # What programs read in different ways: whose host a URL has must not depend on who reads it.
    if _UNPRINTABLE.search(url) or not url.isascii():
        raise ValueError("a URL must be ASCII without spaces, control characters and backslashes; encode it")
    try:
        parts = urlsplit(url)
        return _origin(parts)
    except ValueError as error:
        raise ValueError(f"{shown_url(url)!r} is no URL that a request can be sent to: {error}") from None


def _origin(parts: SplitResult) -> Origin:
    if parts.scheme not in _PORTS:
        raise ValueError("it must begin with https:// or http://")
    if "@" in parts.netloc:
        raise ValueError("it must not have a user or password; send them by headers=")
    if parts.fragment:
        raise ValueError("it must not have a fragment")
    host, port = (parts.hostname or "").rstrip("."), parts.port
    if not _HOST.fullmatch(host) or ".." in host:
        raise ValueError("its host is no host name")
    return Origin(parts.scheme, host, _PORTS[parts.scheme] if port is None else port)


def read_allowed(where: str, given: object) -> tuple[Origin, ...]:
    """Return the origins that a task lists. Raises InvalidTaskError."""
    if isinstance(given, str | bytes) or not isinstance(given, Sequence):
        raise InvalidTaskError(
            f"{where}: allow must be a list of origins like 'https://*.example.com', got {shown(given)}"
        )
    return tuple(_read_allowed(where, each) for each in given)


def _read_allowed(where: str, given: object) -> Origin:
    try:
        wild = isinstance(given, str) and "://*." in given
        origin = origin_of(given.replace("://*.", "://", 1) if wild and isinstance(given, str) else given)
    except ValueError as error:
        raise InvalidTaskError(f"{where}: allow: {error}") from None
    rest = urlsplit(str(given))
    if rest.path not in ("", "/") or rest.query:
        raise InvalidTaskError(f"{where}: allow must list origins, without a path: {str(origin)!r}")
    return origin._replace(host=f"*.{origin.host}") if wild else origin


def check_allowed(url: str, allowed: Sequence[Origin]) -> str:
    """Return *url* if a job may bring it along. Raises ValueError."""
    origin = origin_of(url)
    if not any(each.takes(origin) for each in allowed):
        listed = ", ".join(map(str, allowed))
        raise ValueError(f"the origin {str(origin)!r} is not one that the task allows ({listed})")
    return url


def is_address(host: str) -> bool:
    """Return whether a host is an IP address, and no name."""
    try:
        ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True


def is_public(address: str) -> bool:
    """Return whether an IP address is one of the internet; of one that stands for another, whether it is."""
    try:
        found = ip_address(address)
    except ValueError:
        return False
    if isinstance(found, IPv6Address):
        translated = IPv4Address(int(found) & 0xFFFFFFFF) if found in _NAT64 else None
        found = found.ipv4_mapped or found.sixtofour or translated or found
    return found.is_global and not found.is_multicast


def shown_url(url: str) -> str:
    """Return *url* for errors and logs: without its user and query, which may be secret."""
    head, _, _ = url.partition("?")
    scheme, slashes, rest = head.partition("://")
    if slashes:
        host, slash, path = rest.partition("/")
        head = f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"
    return head[:300]
