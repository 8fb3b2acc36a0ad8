"""Retries and time limits: transient errors are retried, permanent ones are not.

The provider is given the same idempotency key in every attempt: a worker that dies between the charge and its
record, or a charge whose answer is lost, does not charge twice.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from pgqueue import JobContext, PgQueue

# The limits hold for all tasks that set no others. A job is acknowledged when its outcome
# is written, runs again if its worker is lost, and no worker takes more jobs than it can run: the defaults.
pgq = PgQueue(
    os.environ.get("DATABASE_URL", "postgresql://localhost/app"),
    timeout=3600,
    soft_timeout=3000,
)


class PaymentDeclinedError(Exception):
    """The bank declined, and would decline again."""


class TransientError(Exception):
    """The gateway is busy."""


@dataclass
class Charge:
    """A charge that the gateway made."""

    id: str


class PaymentGateway:
    """Your payment provider."""

    async def charge(self, payment_id: str, *, idempotency_key: str) -> Charge:
        """Charge once per key, however often it is called."""
        raise NotImplementedError


payment_gateway = PaymentGateway()


@pgq.task(max_retries=3, default_retry_delay=60, autoretry_for=(ConnectionError, TimeoutError))
async def process_payment(ctx: JobContext, payment_id: str) -> dict[str, str]:
    """Process a payment, with automatic retries after transient errors."""
    try:
        charge = await payment_gateway.charge(payment_id, idempotency_key=ctx.idempotency_key)
    except PaymentDeclinedError as error:
        # Not a failure of the task, but its answer.
        return {"status": "declined", "reason": str(error)}
    except TransientError as error:
        # Retries count from 0: 60, 120, 240 s.
        raise ctx.retry(exc=error, countdown=2**ctx.retries * 60) from error
    return {"status": "success", "transaction_id": charge.id}
