"""Versions of JSON documents: of a response (ETag), and of an event that a reconnecting client has seen."""

from __future__ import annotations

import hashlib
import json
from typing import Any


def encode(document: Any) -> tuple[str, str]:
    """Return *document* as JSON on one line of ASCII, and its version."""
    # ASCII: a job's result may contain half a surrogate pair, which UTF-8 cannot encode.
    text = json.dumps(document, allow_nan=False, separators=(",", ":"))
    return text, hashlib.blake2b(text.encode("ascii"), digest_size=12).hexdigest()


def version_of(document: Any) -> str:
    """Return a text that differs whenever *document* does."""
    return encode(document)[1]


def matches(if_none_match: str, version: str) -> bool:
    """Whether a request's If-None-Match names *version*, so that the client is up to date (RFC 9110)."""
    names = [name.strip() for name in if_none_match.split(",")]
    return "*" in names or any(name.removeprefix("W/").strip('"') == version for name in names)
