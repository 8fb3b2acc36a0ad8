"""Where a request comes from, by its connection and a browser's headers. Decisions only."""

from __future__ import annotations

from collections.abc import Collection
from enum import Enum, auto
from functools import lru_cache
from ipaddress import ip_address, ip_network
from typing import Final
from urllib.parse import urlsplit

from starlette.requests import Request

REMEMBERED: Final = 256
"""Addresses and names that are cached. Clients can send any, so the cache is bounded."""

_PROXIED = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via")
_FORMS = ("application/x-www-form-urlencoded", "multipart/form-data", "text/plain")
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}


class Origin(Enum):
    """Which page made a browser send a request."""

    SAME = auto()
    """A page of this host, or the user directly."""
    OTHER = auto()
    UNKNOWN = auto()
    """The client is not a browser, or one too old to tell."""


def origin_of(request: Request) -> Origin:
    """Return which page sent *request*."""
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return Origin.SAME if site in ("same-origin", "none") else Origin.OTHER
    origin = request.headers.get("origin")
    if origin is None:
        return Origin.UNKNOWN
    scheme, separator, host = origin.lower().partition("://")
    here = request.headers.get("host", "").lower()
    default = _DEFAULT_PORTS.get(scheme)
    if not separator or not host or default is None:
        return Origin.OTHER
    # The scheme is not compared: a proxy that terminates TLS changes it.
    return Origin.SAME if host.removesuffix(default) == here.removesuffix(default) else Origin.OTHER


def is_foreign_form(request: Request) -> bool:
    """Whether a page of another site may have made a browser send *request* in its user's name.

    No page can make a browser send a bearer token, nor anything but a form without a preflight request.
    """
    if request.headers.get("authorization", "").lower().startswith("bearer "):
        return False
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    match origin_of(request):
        case Origin.SAME:
            return False
        case Origin.OTHER:
            return True
        case Origin.UNKNOWN:
            return kind in _FORMS


def is_local(request: Request) -> bool:
    """Whether *request* was made on this machine, and not passed on by a proxy that runs here."""
    if any(header in request.headers for header in _PROXIED):
        return False
    if request.client is None:
        # A UNIX socket.
        return True
    return _is_loopback(request.client.host)


def network_of(request: Request) -> str:
    """Return the address that *request* comes from; for IPv6 its network, all of which one client has."""
    return "" if request.client is None else _network_of(request.client.host)


def is_safe_name(request: Request, allowed: Collection[str]) -> bool:
    """Whether no stranger can have pointed the host that *request* names at this machine.

    A website can give its own name this machine's address (DNS rebinding), which makes it the same origin to
    a browser. It can do so neither with an IP address nor with a name without a dot.
    """
    name = _name_of(request.headers.get("host", ""))
    return name is not None and (_is_own(name) or name in {each.lower() for each in allowed})


# The same few come again and again.
@lru_cache(maxsize=REMEMBERED)
def _network_of(host: str) -> str:
    try:
        address = ip_address(host)
    except ValueError:
        return host
    if address.version == 4 or address.ipv4_mapped is not None:
        return host
    return str(ip_network((address, 64), strict=False))


@lru_cache(maxsize=REMEMBERED)
def _is_loopback(host: str) -> bool:
    try:
        address = ip_address(host)
    except ValueError:
        return host == ""
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)


@lru_cache(maxsize=REMEMBERED)
def _name_of(host: str) -> str | None:
    """Return the name in a Host header, without its port; None: it cannot be parsed."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return None


@lru_cache(maxsize=REMEMBERED)
def _is_own(name: str) -> bool:
    """Whether *name* is an IP address, or one that has no meaning on the internet."""
    try:
        ip_address(name)
    except ValueError:
        name = name.removesuffix(".")
        return name != "" and ("." not in name or name.endswith(".localhost"))
    return True
