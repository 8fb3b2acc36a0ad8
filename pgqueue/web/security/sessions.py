"""The cookie of a browser that has logged in: its expiry, signed with the token. Nothing is stored here.

Another token ends all sessions. A single one cannot be ended before its expiry.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Final

LASTS: Final = 12 * 60 * 60
"""Seconds."""


def cookie_name(token: str) -> str:
    """Return the cookie's name.

    Browsers share cookies between ports. Each token has a cookie of its own, so that staging and production,
    both forwarded to this machine, do not log each other out.
    """
    return f"pgqueue_{_sign(token, 'name')[:12]}"


def make_cookie(token: str, *, now: float) -> str:
    """Return the value of a cookie made *now*, seconds since 1970."""
    until = str(int(now) + LASTS)
    return f"{until}.{_sign(token, f'session until {until}')}"


def is_valid(token: str, cookie: str, *, now: float) -> bool:
    """Whether *cookie* was made with *token* and is valid *now*."""
    until, _, signature = cookie.partition(".")
    # The signature first: text that this app has not written is not parsed.
    expected = _sign(token, f"session until {until}")
    if not hmac.compare_digest(signature.encode("utf-8", "replace"), expected.encode()):
        return False
    return now < int(until)


def _sign(token: str, text: str) -> str:
    key = token.encode("utf-8", "surrogatepass")
    return hmac.new(key, f"pgqueue {text}".encode("utf-8", "replace"), hashlib.sha256).hexdigest()
