"""Listens where the command line says."""

from __future__ import annotations

import socket

from pgqueue.errors import ConfigurationError


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens; port 0: a free one. Raises ConfigurationError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        raise ConfigurationError(f"cannot listen on {host} port {port}: {error}") from error
