"""Whatever is sent to the API, it answers as its document says: schemathesis, over a real server."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
import uvicorn
from hypothesis import HealthCheck, settings
from schemathesis.checks import CheckFunction
from schemathesis.schemas import BaseSchema
from schemathesis.specs.openapi.checks import positive_data_acceptance

from pgqueue import PgQueue, chord
from pgqueue.testing.databases import Databases
from pgqueue.web import status_app
from pgqueue.web.api.openapi import describe
from pgqueue.web.settings import WebSettings

pytestmark = pytest.mark.outside

TOKEN = "a-secret-for-tests"


class Served(threading.Thread):
    """A status app with jobs of all kinds, on a port of this machine."""

    def __init__(self, dsn: str) -> None:
        super().__init__(name="served")
        self._pgq = PgQueue(dsn)
        app = status_app(self._pgq, token=TOKEN, max_wait=0.1)
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off"))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"

    def run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        await fill(self._pgq)
        async with self._pgq:
            await self._server.serve(sockets=[self._socket])

    def stop(self) -> None:
        """Let requests end, and end."""
        self._server.should_exit = True
        self.join(60)


async def fill(pgq: PgQueue) -> None:
    """Put a job of each kind into the database."""

    @pgq.task(max_retries=0)
    async def work(outcome: str = "") -> str:
        if outcome:
            raise ValueError(outcome)
        return "done"

    async with pgq:
        done = [await work.enqueue(), await work.enqueue("lost"), await work.enqueue("lost again")]
        async with pgq.worker():
            for job in done:
                await pgq.wait(job.id)
        await work.options(delay=3600, tags=["vip"], key="customer/7").enqueue()
        await work.options(queue="mail").enqueue()
        await chord([work.s(), work.si("failed")], work.si()).enqueue()
        await pgq.schedules.create("nightly", work.s(), every=3600)
        await pgq.schedules.run_now("nightly")
        await pgq.set_limit("tenant", slots=3)


@pytest.fixture(scope="module")
def served(databases: Databases) -> Iterator[str]:
    dsn = databases.clone()
    thread = Served(dsn)
    thread.start()
    yield thread.url
    thread.stop()
    databases.drop(dsn)


def described() -> BaseSchema:
    app = status_app(PgQueue("postgresql://nowhere/app"), token=TOKEN)
    document = describe(app.routes, WebSettings(token=TOKEN))
    # A stream has no end, and this client waits for one: the streams have tests of their own.
    for path in ("/events", "/jobs/{id}/events", "/workflows/{id}/events"):
        del document["paths"][path]
    schema = schemathesis.openapi.from_dict({**document, "servers": [{"url": "/"}]})
    # What these phases send is made while tests are collected, also for runs of others.
    schema.config.phases.update(phases=["fuzzing"])
    return schema


schema = described()

# Parts of a request that each may be so, and not together: a time after the other one, no filter and not all,
# a key and another body; and texts whose characters no schema names.
CONTRADICTORY = {
    "jobs", "cancel_jobs", "requeue_jobs", "dead_letters", "redrive_many", "discard_many", "configure_task",
    "submit_job", "workflows", "send_event", "create_schedule", "edit_schedule",
    "change_limit", "job_counts", "begin_bulk",
}  # fmt: skip


@schema.parametrize()
@settings(max_examples=20, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_the_api_answers_as_described(case: schemathesis.Case[Any], served: str) -> None:
    operation = case.operation.definition.raw["operationId"]
    excluded: list[CheckFunction] = [positive_data_acceptance] if operation in CONTRADICTORY else []

    case.call_and_validate(
        base_url=served, headers={"Authorization": f"Bearer {TOKEN}"}, excluded_checks=excluded
    )
