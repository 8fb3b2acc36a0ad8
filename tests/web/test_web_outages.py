"""Each route, while the database is away or goes away at its statement: 503, and a sentence that says so."""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import Any

import pytest
from kit.cutting import cutting_proxy
from kit.web_client import client_of
from kit.web_routes import routes_of

from pgqueue import DatabaseUnavailableError, PgQueue
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
    async with cutting_proxy(dsn) as proxy, PgQueue(proxy.dsn, connect_timeout=1) as away:
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
