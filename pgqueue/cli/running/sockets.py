"""Opens the listening sockets of commands."""

from __future__ import annotations

import socket
from ipaddress import ip_address

from pgqueue import forks
from pgqueue.errors import ConfigurationError


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach *host*. Names other than localhost count as reachable."""
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket; port 0 selects a free port. Raises ConfigurationError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        raise ConfigurationError(f"cannot listen on {host} port {port}: {error}") from error
    # What a handler forks would keep the port taken after this process has ended.
    forks.close_in_children(listener)
    return listener
