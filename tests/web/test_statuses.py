"""An error has one status, whether a program or a person asks."""

from __future__ import annotations

import inspect
from typing import Any
from uuid import UUID

import httpx
import pytest
from kit.scene import allow
from starlette.requests import Request

from pgqueue import PgQueue, errors
from pgqueue.web import status_app
from pgqueue.web.http.statuses import status_of

# SoftTimeLimitExceeded is a cancellation, which is raised in handlers alone.
ERRORS = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, Exception) and kind.__module__ == errors.__name__
]
VALUES: dict[str, Any] = {
    "str": "thing",
    "object": "thing",
    "int": 7,
    "float": 7.5,
    "float | None": 7.5,
    "UUID": UUID(int=7),
    "Sequence[UUID]": (),
}


def an_error(kind: type[Exception]) -> Exception:
    """Return an error with some value for each parameter that has to be given."""
    if not inspect.isfunction(kind.__init__):
        return kind("it went wrong")
    needed = [each for each in inspect.signature(kind).parameters.values() if each.default is each.empty]
    positional = [each for each in needed if each.kind is each.POSITIONAL_OR_KEYWORD]
    named = {each.name: VALUES[each.annotation] for each in needed if each.kind is each.KEYWORD_ONLY}
    return kind(*(VALUES[each.annotation] for each in positional), **named)


@pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: kind.__name__)
async def test_the_api_and_the_pages_answer_an_error_alike(pgq: PgQueue, kind: type[Exception]) -> None:
    async def work() -> None: ...

    def fail(_: Request) -> str:
        raise an_error(kind)

    job = await pgq.task(work).enqueue()
    transport = httpx.ASGITransport(status_app(pgq, authorize=allow, actor=fail), raise_app_exceptions=False)
    headers = {"Sec-Fetch-Site": "same-origin"}
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost", headers=headers) as client:
        api = await client.post(f"/jobs/{job.id}/cancel")
        page = await client.post(f"/dashboard/jobs/{job.id}/cancel")

    assert api.headers["content-type"] == "application/problem+json"
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert api.status_code == page.status_code == status_of(an_error(kind))
    assert api.headers.get("retry-after") == page.headers.get("retry-after")


def test_an_error_that_is_not_in_the_table_is_a_bug_of_the_service() -> None:
    assert status_of(errors.LeaseLostError("lost")) == 500
    assert status_of(errors.NotOpenError("closed")) == 503


async def test_a_closed_pgqueue_is_unavailable_and_not_broken(dsn: str) -> None:
    transport = httpx.ASGITransport(status_app(PgQueue(dsn), authorize=allow))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        responses = [await client.get(path) for path in ("/jobs", "/dashboard/jobs")]

    assert [response.status_code for response in responses] == [503, 503]
    assert [response.headers["retry-after"] for response in responses] == ["1", "1"]
