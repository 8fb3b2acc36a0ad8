"""Workflows: a chain, a group and a chord, composed of simple tasks.

A result that does not fit the next task is an error of the type checker, at the line that composes them.
"""

from __future__ import annotations

import os
from typing import Any

from pgqueue import PgQueue, WorkflowHandle, chain, chord, group

pgq = PgQueue(os.environ.get("DATABASE_URL", "postgresql://localhost/app"))
sent: list[str] = []


@pgq.task
async def extract_data(source_id: int) -> list[int]:
    """Read the rows of a source."""
    return [source_id, source_id + 1, source_id + 2]


@pgq.task
async def transform_data(rows: list[int]) -> list[int]:
    """Change each row."""
    return [row * 10 for row in rows]


@pgq.task
async def load_data(rows: list[int], destination_id: str) -> str:
    """Store the rows: the result before it comes first, then what the chain says."""
    return f"{len(rows)} rows in {destination_id}"


@pgq.task
async def send_email(to: str) -> None:
    """Send a mail."""
    sent.append(f"mail {to}")


@pgq.task
async def send_sms(to: str) -> None:
    """Send a text message."""
    sent.append(f"sms {to}")


@pgq.task
async def update_analytics(event: str) -> None:
    """Count an event."""
    sent.append(f"analytics {event}")


@pgq.task
async def process_item(item_id: int) -> int:
    """Process an item."""
    return item_id * item_id


@pgq.task
async def send_completion_notification(results: list[int], batch_id: str) -> str:
    """Tell that a batch is done: it takes the results of all its items, in their order."""
    return f"{batch_id}: {len(results)} items, {sum(results)} in all"


async def start() -> list[WorkflowHandle[Any]]:
    """Start one workflow of each kind."""
    # A, then B with A's result, then C with B's.
    workflow = chain(extract_data.s(7), transform_data.s(), load_data.s("warehouse"))
    # A, B and C at the same time.
    parallel = group(send_email.s("user@example.com"), send_sms.s("+431234"), update_analytics.s("signed_up"))
    # Many, and one task when all of them have succeeded.
    items = chord(
        [process_item.s(item_id) for item_id in (1, 2, 3)], send_completion_notification.s("batch-1")
    )
    return [await workflow.enqueue(), await parallel.enqueue(), await items.enqueue()]
