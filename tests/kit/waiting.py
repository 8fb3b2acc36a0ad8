"""Waiting for what is not announced, and what tests wait for most."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

import anyio

from pgqueue import Job, JobHandle, JobStatus, PgQueue


async def eventually(condition: Callable[[], Awaitable[bool]], *, within: float = 180.0) -> None:
    """Wait until *condition* holds; fail if it does not *within* so many seconds."""
    with anyio.fail_after(within):
        while not await condition():  # noqa: ASYNC110  # what is waited for is not announced
            await anyio.sleep(0.01)


async def holds(condition: bool) -> bool:
    """Return *condition*, for `eventually`, which awaits what it asks."""
    return condition


async def is_terminal(job: JobHandle[Any]) -> bool:
    """Return whether *job* has ended."""
    return (await job.status()).is_terminal


async def is_over(pgq: PgQueue, job_id: UUID) -> bool:
    """Return whether the job has ended."""
    return (await pgq.get(job_id)).is_terminal


async def has_status(job: JobHandle[Any], status: JobStatus) -> bool:
    """Return whether *job* has that status."""
    return await job.status() is status


async def over(job: JobHandle[Any]) -> Job:
    """Return a job once it has ended."""
    await eventually(lambda: is_terminal(job))
    return await job.refresh()
