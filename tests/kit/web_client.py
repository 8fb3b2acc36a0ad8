"""A client of an app in the same process: no socket lies between them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx

HERE = ("127.0.0.1", 40000)
"""Where requests come from: the app's own machine."""


def client_of(
    app: Any,
    *,
    client: tuple[str, int] = HERE,
    base_url: str = "http://localhost",
    headers: Mapping[str, str] | None = None,
) -> httpx.AsyncClient:
    """Return a client whose requests reach *app* from the address *client*, all with *headers*."""
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(app, client=client), base_url=base_url, headers=headers
    )
