"""Dead letters: jobs that failed permanently are kept, with everything needed to redrive them.

The task does not know of them. A job whose retries are exhausted has failed, and a failed job is a dead
letter: it never reads as a success, and there is no second store to write to before a crash.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from pgqueue import DeadLetterFilter, JobContext, PgQueue

pgq = PgQueue(os.environ.get("DATABASE_URL", "postgresql://localhost/app"))


class WebhookFailedError(Exception):
    """The receiver did not accept it."""


class Sender:
    """Your HTTP client."""

    async def send(self, payload: Mapping[str, Any], *, idempotency_key: str) -> str | None:
        """Send; return the error if there was one."""
        raise NotImplementedError


sender = Sender()


async def deliver(webhook_id: str, payload: Mapping[str, Any]) -> None:
    """Send a webhook. Raises WebhookFailedError."""
    error = await sender.send(payload, idempotency_key=f"webhook-{webhook_id}")
    if error is not None:
        raise WebhookFailedError(error)


@pgq.task(max_retries=3)
async def process_webhook(ctx: JobContext, webhook_id: str, payload: dict[str, Any]) -> None:
    """Send a webhook; three retries after 60, 120 and 240 s, then a dead letter."""
    try:
        await deliver(webhook_id, payload)
    except Exception as error:
        # It becomes the job's error, and is logged as such, when the retries are exhausted.
        raise ctx.retry(exc=error, countdown=2**ctx.retries * 60) from error


async def entries() -> list[dict[str, Any]]:
    """Return the dead webhooks as an operator wants to see them. Looking changes nothing."""
    page = await pgq.dead_letters(DeadLetterFilter(task="process_webhook"))
    found = []
    for letter in page.letters:
        details = await pgq.dead_letter(letter.job_id)
        found.append(
            {
                "task": letter.task,
                "webhook_id": details.job.arguments["webhook_id"],
                "payload": details.job.arguments["payload"],
                "error": letter.message,
                "attempts": letter.attempt,
                "failed_at": letter.failed_at.isoformat(),
            }
        )
    return found


async def send_again(job_id: UUID, *, actor: str) -> None:
    """Redrive one of them, under the same id and with fresh retries."""
    await pgq.redrive(job_id, actor=actor)
