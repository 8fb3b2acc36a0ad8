"""What a handler logs with structlog says of which job it is."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from kit.waiting import eventually, is_over

from pgqueue import PgQueue
from pgqueue.integrations.structlog import add_job_fields


@pytest.fixture
def events() -> Iterator[list[dict[str, Any]]]:
    found: list[dict[str, Any]] = []

    def keep(_logger: Any, _method: str, event: Any) -> Any:
        found.append(dict(event))
        raise structlog.DropEvent

    structlog.configure(processors=[structlog.contextvars.merge_contextvars, add_job_fields, keep])
    yield found
    structlog.reset_defaults()


@pytest.mark.contract("BP7")
async def test_what_is_logged_in_a_handler_has_the_fields_of_its_job(
    pgq: PgQueue, events: list[dict[str, Any]]
) -> None:
    log = structlog.get_logger()

    async def inner() -> None:
        log.info("inner", user="ada")

    @pgq.task
    async def coroutine() -> None:
        log.info("outer", job_id="own")
        await asyncio.create_task(inner())

    @pgq.task
    def thread() -> None:
        log.info("thread")

    first, second = await coroutine.enqueue(), await thread.enqueue()
    log.info("outside")
    async with pgq.worker():
        for job in (first, second):
            await eventually(lambda job=job: is_over(pgq, job.id))  # type: ignore[misc]

    found = {event.pop("event"): event for event in events}
    of_first = {"job_id": str(first.id), "task": "coroutine", "queue": "default", "attempt": 1}
    assert found == {
        "outside": {},
        "outer": {**of_first, "job_id": "own"},
        "inner": {**of_first, "user": "ada"},
        "thread": {**of_first, "job_id": str(second.id), "task": "thread"},
    }
