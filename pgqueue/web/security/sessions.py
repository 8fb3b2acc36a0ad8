"""The cookie of a browser that has logged in: its expiry and a name of its own, signed with the token.

A session is valid by its signature until it expires. Only one that was ended before is on record, in the
database, so that it has ended for every process. Another token ends all sessions.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
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
    session = f"{int(now) + LASTS}-{secrets.token_hex(16)}"
    return f"{session}.{_sign(token, f'session until {session}')}"


def is_valid(token: str, cookie: str, *, now: float) -> bool:
    """Whether *cookie* was made with *token* and is valid *now*."""
    session, _, signature = cookie.partition(".")
    # The signature first: text that this app has not written is not parsed.
    expected = _sign(token, f"session until {session}")
    if not hmac.compare_digest(signature.encode("utf-8", "replace"), expected.encode()):
        return False
    return now < valid_until(cookie)


def valid_until(cookie: str) -> int:
    """Return when a cookie that was made here expires, in seconds since 1970."""
    return int(cookie.partition(".")[0].partition("-")[0])


def session_of(cookie: str) -> str:
    """Return the name under which the session of *cookie* is on record. Nobody can log in with it."""
    return hashlib.sha256(cookie.encode("utf-8", "replace")).hexdigest()


def _sign(token: str, text: str) -> str:
    key = token.encode("utf-8", "surrogatepass")
    return hmac.new(key, f"pgqueue {text}".encode("utf-8", "replace"), hashlib.sha256).hexdigest()
