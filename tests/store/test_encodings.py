"""A database that is not UTF8: what fits comes back, the rest is replaced or refused, the worker lives."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from typing import Any

import httpx
import pytest

from pgqueue import ConfigurationError, InvalidOptionError, JobContext, JobFailed, PgQueue
from pgqueue.testing.databases import Databases
from pgqueue.web import status_app

pytestmark = pytest.mark.contract("W4")

TOKEN = "t" * 32

ENCODINGS = ["LATIN1", "SQL_ASCII", "WIN1252", "EUC_JP"]
WIDE = "é → 漢字 😀"


@pytest.fixture(params=ENCODINGS)
def narrow_dsn(databases: Databases, request: pytest.FixtureRequest) -> Iterator[str]:
    """An empty database of that encoding."""
    dsn = databases.make_empty(f"encoding '{request.param}' locale 'C' template template0")
    yield dsn
    databases.drop(dsn)


@pytest.fixture
async def narrow(narrow_dsn: str, caplog: pytest.LogCaptureFixture) -> AsyncIterator[PgQueue]:
    caplog.set_level(logging.WARNING, "pgqueue.database")
    pgq = PgQueue(narrow_dsn)
    await pgq.migrate()
    async with pgq:
        assert "not UTF8" in caplog.text
        yield pgq


async def test_each_door_takes_text_that_does_not_fit_or_refuses_it_and_the_worker_goes_on(
    narrow: PgQueue,
) -> None:
    @narrow.task(max_retries=0)
    async def echo(value: str) -> str:
        return value

    @narrow.task(max_retries=1, default_retry_delay=0.01, retry_backoff=False)
    async def fail(value: str) -> None:
        raise ValueError(value)

    @narrow.task(max_retries=0)
    async def report(ctx: JobContext) -> str:
        ctx.progress(1, 2, {"text": WIDE})

        async def step() -> str:
            return WIDE

        return await ctx.step("step", step)

    refused: list[dict[str, Any]] = [
        {"tags": ["漢"]},
        {"key": "漢😀"},
        {"idempotency_key": "漢😀"},
        {"queue": "漢😀"},
    ]
    async with narrow.worker(queues=["default"]) as worker:
        assert await (await echo.enqueue(WIDE)).result(timeout=60) == WIDE
        handles = await narrow.enqueue_many([echo.s("a"), echo.s(WIDE), echo.s("b")])
        assert [await each.result(timeout=60) for each in handles] == ["a", WIDE, "b"]
        assert await (await report.enqueue()).result(timeout=60) == WIDE
        failed = await fail.enqueue(WIDE)
        with pytest.raises(JobFailed):
            await failed.result(timeout=60)
        assert (await narrow.dead_letters()).letters[0].error_type == "ValueError"
        assert len(await narrow.attempts(failed.id)) == 2
        headers = {"a": WIDE}
        headed = await echo.options(headers=headers).enqueue("x")
        assert (await narrow.get(headed.id)).headers == headers
        for options in refused:
            # Some of it fits some of them.
            with suppress(InvalidOptionError):
                await echo.options(**options).enqueue("x")
        with suppress(InvalidOptionError):
            await narrow.mark_processed("漢😀", "event")
        assert await (await echo.enqueue("last")).result(timeout=60) == "last"
        assert worker.is_alive


@pytest.mark.parametrize("narrow_dsn", ["LATIN1"], indirect=True)
async def test_a_tag_that_does_not_fit_is_refused_and_nothing_is_written(narrow: PgQueue) -> None:
    for call in (
        narrow.enqueue_by_name("task", options={"tags": ["漢"]}),
        narrow.enqueue_by_name("task", options={"key": "漢"}),
        narrow.enqueue_by_name("task", options={"idempotency_key": "漢"}),
        narrow.mark_processed("漢", "event"),
    ):
        with pytest.raises(InvalidOptionError, match="encoding"):
            await call
    assert (await narrow.jobs()).jobs == []
    with pytest.raises(ConfigurationError, match="LATIN1"):
        narrow.worker(queues=["漢"])


@pytest.mark.parametrize("narrow_dsn", ["LATIN1"], indirect=True)
async def test_a_submission_that_does_not_fit_is_answered_with_422(narrow: PgQueue) -> None:
    @narrow.task
    async def work(text: str) -> str:
        return text

    app = status_app(narrow, token=TOKEN)
    headers = {"Authorization": f"Bearer {TOKEN}"}
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost", headers=headers) as client:
        for options in ({"tags": ["漢"]}, {"queue": "漢"}):
            body = {"task": "work", "arguments": {"text": WIDE}, **options}
            refused = await client.post("/jobs", json=body)
            assert (refused.status_code, "encoding" in refused.text) == (422, True), refused.text
        taken = await client.post("/jobs", json={"task": "work", "arguments": {"text": WIDE}})
        assert taken.status_code == 202, taken.text
    assert [each.arguments for each in (await narrow.jobs()).jobs] == [{"text": WIDE}]
