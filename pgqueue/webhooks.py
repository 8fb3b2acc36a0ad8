"""Webhooks: what a receiver needs to trust one, and tokens for the requests of HTTP tasks.

    event = verify(await request.body(), request.headers, SECRET)

Signatures are those of Standard Webhooks, so the libraries of other languages verify them, too.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from pgqueue.delivery.answers import HttpAnswer
from pgqueue.delivery.headers import BearerToken
from pgqueue.delivery.signing import TOLERANCE, Secrets, check
from pgqueue.model.webhooks import Webhook

__all__ = ["BearerToken", "HttpAnswer", "Webhook", "verify"]


def verify(
    body: bytes | str,
    headers: Mapping[str, str],
    secret: Secrets,
    *,
    tolerance: float = TOLERANCE,
    now: float | None = None,
) -> Any:
    """Return what a webhook says, once it is sure that it was sent with *secret*, and just now.

    *body*: as it was received, byte for byte. *secret*: one, or several while you rotate them: one that fits
    is enough. *tolerance*: seconds by which the clocks may differ. *now*: the time, in seconds since 1970, by
    default that of this machine's clock.

    A message can come twice. The header `webhook-id` is the same then: pass it to `PgQueue.mark_processed`.
    Raises InvalidSignatureError, and InvalidOptionError for a secret that is none.
    """
    return check(body, headers, secret, tolerance=tolerance, now=time.time() if now is None else now)
