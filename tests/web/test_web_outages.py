"""Each route, while the database is away or goes away at its statement: 503, and a sentence that says so."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import Any

import anyio
import httpx
import pytest
from kit import inside
from kit.cutting import cutting_proxy
from kit.streams import WITHIN, listening
from kit.waiting import eventually, holds
from kit.web_client import client_of
from kit.web_routes import routes_of
from kit.web_server import serving

from pgqueue import DatabaseUnavailableError, PgQueue, chain
from pgqueue.web import status_app

pytestmark = pytest.mark.contract("F6")

TOKEN = "t" * 32
NAMES = {"queue": "default", "task": "work", "fingerprint": "abc", "schedule": "nightly", "limit": "tenant"}
ASKS_NOTHING = (200, 307, 403, 422)
"""The document, the styles, whether the process lives, the login; and what is refused before it is sent."""


@pytest.mark.parametrize("is_sent", [None, False, True])
async def test_each_route_says_that_the_database_is_away(
    pgq: PgQueue, dsn: str, caplog: pytest.LogCaptureFixture, *, is_sent: bool | None
) -> None:
    job = await pgq.enqueue_by_name("work")
    wrong: dict[tuple[str, str], tuple[int, str]] = {}
    unavailable = 0
    async with cutting_proxy(dsn) as proxy, PgQueue(proxy.dsn) as away:
        inside.database(away).connect_timeout = 0.3
        app = status_app(away, token=TOKEN)
        headers = {"authorization": f"Bearer {TOKEN}"}
        async with client_of(app, headers=headers) as client:
            for method, path in routes_of(app, {**NAMES, "id": job.id}):
                if path.endswith(("/events", "/stream")):
                    # They tell of it in their stream.
                    continue
                proxy.come_back()
                for _ in range(3):
                    with suppress(DatabaseUnavailableError):
                        await away.check()
                if is_sent is None:
                    proxy.is_away = True
                    await proxy.close()
                else:
                    proxy.go_away(0, is_sent=is_sent)
                body: dict[str, Any] = {}
                if method in ("POST", "PUT", "PATCH"):
                    body = {"data": {}} if path.startswith("/dashboard") else {"json": {}}
                response = await client.request(method, path, **body)
                if response.status_code == 503 and (method == "HEAD" or "unavailable" in response.text):
                    unavailable += 1
                elif response.status_code not in ASKS_NOTHING:
                    wrong[method, path] = response.status_code, response.text
        proxy.come_back()

    assert wrong == {}
    assert unavailable > 100
    assert [record.getMessage() for record in caplog.records if record.exc_info] == []
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


MESSAGES = range(0, 24, 5)
"""At which of the messages from the opening of the streams on."""


async def last_status(client: httpx.AsyncClient, url: str, answers: set[int]) -> str:
    """Return the last status that a stream tells, read as a browser does: it opens it again where it ends."""
    last = None
    while True:
        try:
            async with listening(client, url, last=last) as (source, events):
                answers.add(source.response.status_code)
                async for event in events:
                    last = event.id or last
                    status = str(event.json().get("status"))
                    if status == "cancelled":
                        return status
        except httpx.HTTPError:
            # An answer that is no stream: 503.
            pass
        await asyncio.sleep(0.05)


@pytest.mark.parametrize("is_sent", [False, True])
async def test_a_stream_tells_the_end_wherever_the_server_is_cut_off(
    pgq: PgQueue,
    dsn: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    *,
    is_sent: bool,
) -> None:
    monkeypatch.setattr("pgqueue.background.watching.POLL_INTERVAL", 0.1)
    answers: set[int] = set()

    @pgq.task(queue="nobody works here")
    async def idle() -> None: ...

    async with cutting_proxy(dsn) as proxy, httpx.AsyncClient(timeout=WITHIN) as client:
        for message in MESSAGES:
            job, flow = await idle.enqueue(), await chain(idle.si(), idle.si()).enqueue()
            async with (
                PgQueue(proxy.dsn) as away,
                serving(status_app(away, local_reading=True)) as url,
                asyncio.TaskGroup() as group,
            ):
                inside.database(away).connect_timeout = 1.0
                proxy.go_away(message, is_sent=is_sent)
                paths = f"jobs/{job.id}", f"workflows/{flow.workflow_id}"
                told = [
                    group.create_task(last_status(client, f"{url}/{path}/events", answers)) for path in paths
                ]
                # There may be fewer messages.
                with suppress(TimeoutError):
                    await eventually(lambda: holds(proxy.is_away), within=1)
                await job.cancel()
                await pgq.cancel_workflow(flow.workflow_id)
                proxy.come_back()
                with anyio.fail_after(WITHIN):
                    assert [await each for each in told] == ["cancelled"] * 2

    assert answers <= {200, 503}
    assert [record.getMessage() for record in caplog.records if record.exc_info] == []
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == []
