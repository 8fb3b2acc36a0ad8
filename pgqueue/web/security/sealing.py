"""Sealed cursors: a client can neither read what is in one, nor make one up, nor use another's."""

from __future__ import annotations

import base64
import hashlib
import hmac
from typing import Final

TAG: Final = 16
"""Bytes."""


def seal(secret: bytes, text: str, *, context: str) -> str:
    """Return *text* sealed for *context*. The same text and context give the same seal."""
    plain = text.encode()
    tag = _tag(secret, plain, context)
    return base64.urlsafe_b64encode(tag + _mixed(secret, tag, plain)).decode().rstrip("=")


def unseal(secret: bytes, sealed: str, *, context: str) -> str | None:
    """Return the text that was sealed for *context*; None: it was not."""
    try:
        raw = base64.b64decode(sealed + "=" * (-len(sealed) % 4), altchars=b"-_", validate=True)
    except ValueError:
        return None
    tag = raw[:TAG]
    plain = _mixed(secret, tag, raw[TAG:])
    return plain.decode() if hmac.compare_digest(tag, _tag(secret, plain, context)) else None


def _tag(secret: bytes, plain: bytes, context: str) -> bytes:
    # The tag is also where the key stream begins (SIV): no two texts share one.
    inner = hashlib.sha256(context.encode("utf-8", "surrogatepass")).digest()
    return hmac.new(secret, b"tag" + inner + plain, hashlib.sha256).digest()[:TAG]


def _mixed(secret: bytes, tag: bytes, data: bytes) -> bytes:
    stream = b"".join(
        hmac.new(secret, b"key" + tag + block.to_bytes(4), hashlib.sha256).digest()
        for block in range(-(-len(data) // 32))
    )
    return bytes(one ^ other for one, other in zip(data, stream, strict=False))
