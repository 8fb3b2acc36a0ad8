"""Claimed jobs, for tests of what is told of them."""

from __future__ import annotations

from uuid import uuid4

from pgqueue.store import Claimed


def claimed_job(task: str = "work", *, lane: int = 1, waited: float = 0.0) -> Claimed:
    """Return a job that was claimed for its first attempt."""
    return Claimed(uuid4(), lane, 1, 1, 0, task, "{}", None, None, None, None, waited, None)
