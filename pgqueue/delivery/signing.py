"""Signatures of requests, as Standard Webhooks has them: https://www.standardwebhooks.com. Values only.

`webhook-id` names the message, the same each time it is sent; `webhook-timestamp` is when it was sent, in
seconds; `webhook-signature` has `v1,` and the HMAC-SHA256 of both and of the body, once for each secret.
"""

from __future__ import annotations

import binascii
import hmac
import json
from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from typing import Any, Final

from pgqueue.errors import InvalidOptionError, InvalidSignatureError

PREFIX: Final = "whsec_"
LEAST: Final = 16
"""Bytes of the shortest secret."""
TOLERANCE: Final = 300.0
"""Seconds by which the clocks of the sender and the receiver may differ."""
MOST_SIGNATURES: Final = 20
"""Signatures of one message that are compared, at most."""

Secrets = str | Sequence[str]
"""One secret, or several while they are rotated: the message is signed by each of them."""


def read_secrets(where: str, given: object) -> tuple[bytes, ...]:
    """Return the keys that secrets stand for. Raises InvalidOptionError, which does not show them."""
    each = [given] if isinstance(given, str) else given
    if isinstance(each, bytes) or not isinstance(each, Sequence) or not each:
        raise InvalidOptionError(
            f"{where}: secret must be a string, or a list of strings while you rotate it"
        )
    return tuple(_read_secret(where, secret) for secret in each)


def _read_secret(where: str, secret: object) -> bytes:
    if not isinstance(secret, str):
        raise InvalidOptionError(f"{where}: a secret must be a string, got a {type(secret).__name__}")
    if secret.startswith(PREFIX):
        try:
            key = b64decode(secret.removeprefix(PREFIX), validate=True)
        except (binascii.Error, ValueError):
            raise InvalidOptionError(f"{where}: behind {PREFIX!r}, a secret must be base64") from None
    else:
        key = secret.encode(errors="surrogatepass")
    if len(key) < LEAST:
        raise InvalidOptionError(
            f"{where}: a secret must have at least {LEAST} bytes; make one with "
            "`python -c 'import secrets; print(secrets.token_urlsafe(32))'`"
        )
    return key


def sign(keys: Iterable[bytes], message_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """Return the headers that sign a message."""
    signatures = " ".join(_signature(key, message_id, str(timestamp), body) for key in keys)
    return {"webhook-id": message_id, "webhook-timestamp": str(timestamp), "webhook-signature": signatures}


def _signature(key: bytes, message_id: str, timestamp: str, body: bytes) -> str:
    signed = b".".join((message_id.encode(), timestamp.encode(), body))
    return f"v1,{b64encode(hmac.digest(key, signed, sha256)).decode()}"


def check(
    body: bytes | str, headers: Mapping[str, str], secret: Secrets, *, tolerance: float, now: float
) -> Any:
    """Return the JSON of a message that is signed. See `pgqueue.webhooks.verify`."""
    keys = read_secrets("verify", secret)
    content = body.encode() if isinstance(body, str) else bytes(body)
    names = {name.lower(): value for name, value in headers.items()}
    message_id, timestamp = names.get("webhook-id"), names.get("webhook-timestamp")
    given = names.get("webhook-signature")
    if not message_id or not timestamp or not given:
        raise InvalidSignatureError(
            "it lacks one of the headers webhook-id, webhook-timestamp and webhook-signature"
        )
    if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= MOST_SIGNATURES):
        raise InvalidSignatureError("its webhook-timestamp is no number of seconds")
    # Not `>`: a clock that is no number fits nothing.
    if not abs(now - int(timestamp)) <= tolerance:
        raise InvalidSignatureError(
            f"it was sent more than {tolerance:g} s ago, or in the future: a replay, or a wrong clock"
        )
    wanted = [_signature(key, message_id, timestamp, content).encode() for key in keys]
    offered = [each.encode() for each in given.split()[:MOST_SIGNATURES]]
    if not any(hmac.compare_digest(one, other) for one in wanted for other in offered):
        raise InvalidSignatureError("no signature of it was made with this secret, or its body was changed")
    try:
        return json.loads(content) if content else None
    except ValueError:
        raise InvalidSignatureError("it is signed, but its body is no JSON") from None
