"""One task, enqueued from an API handler, run by a worker.

DATABASE_URL=postgresql://localhost/app pgqueue worker examples.quick_start:pgq
"""

from __future__ import annotations

import os

from pgqueue import PgQueue

pgq = PgQueue(os.environ.get("DATABASE_URL", "postgresql://localhost/app"))


class EmailClient:
    """Your way to send mail."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, str, str]] = []

    async def send(self, to: str, subject: str, body: str) -> None:
        """Send a mail."""
        self.sent.append((to, subject, body))


email_client = EmailClient()


@pgq.task(queue="mail")
async def send_email(to: str, subject: str, body: str) -> None:
    """Run in a worker."""
    await email_client.send(to, subject, body)


async def sign_up(address: str) -> None:
    """Return at once; a worker sends the mail. Call it inside `async with pgq:`."""
    await send_email.enqueue(address, "Welcome!", "Thanks for signing up")
