"""Versions of JSON documents: of a response (ETag), and of an event that a reconnecting client has seen."""

from __future__ import annotations

import hashlib
import json
from typing import Any


def encode(document: Any) -> tuple[str, str]:
    """Return *document* as JSON on one line of ASCII, and its version."""
    # ASCII, whatever is in it: half a surrogate pair, of which a job's result may consist, has no UTF-8.
    text = json.dumps(document, allow_nan=False, separators=(",", ":"))
    return text, hashlib.blake2b(text.encode("ascii"), digest_size=12).hexdigest()


def version_of(document: Any) -> str:
    """Return what is another text whenever *document* is another."""
    return encode(document)[1]


def matches(if_none_match: str, version: str) -> bool:
    """Whether a request's If-None-Match names *version*: what the client has is what there is (RFC 9110)."""
    names = [name.strip() for name in if_none_match.split(",")]
    return "*" in names or any(name.removeprefix("W/").strip('"') == version for name in names)
