"""What tests of metrics wait for."""

from __future__ import annotations

from pgqueue import Worker


async def are_running(worker: Worker, count: int) -> bool:
    return worker.running == count
