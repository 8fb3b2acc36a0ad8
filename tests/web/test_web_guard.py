"""What holds for every request and every response of the status app."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator

import pytest
from kit.web_client import client_of
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Mount, Route

from pgqueue import PgQueue
from pgqueue.web import status_app
from pgqueue.web.security.guard import HEADERS, Guard

# The same in every process: parallel runs of the tests have to agree on their names.
NOBODYS = "8d0c9a4e-6a2b-4c8e-9d5b-0f6f3f7a1c2d"


async def fail(_: Request) -> Response:
    raise RuntimeError("password=hunter2")


async def fail_halfway(_: Request) -> Response:
    async def parts() -> AsyncIterator[str]:
        yield "half"
        raise RuntimeError("password=hunter2")

    return StreamingResponse(parts())


async def own_headers(_: Request) -> Response:
    return Response(headers={"Cache-Control": "max-age=60"})


def guarded() -> Starlette:
    routes = [Route("/fail", fail), Route("/halfway", fail_halfway), Route("/own", own_headers)]
    return Starlette(routes=routes, middleware=[Middleware(Guard)])


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/livez", 200),
        ("GET", f"/jobs/{NOBODYS}", 404),
        ("GET", "/jobs/nonsense", 422),
        ("GET", "/nowhere", 404),
        ("DELETE", "/livez", 405),
        ("GET", "/livez?" + "x" * 9000, 414),
    ],
)
async def test_every_answer_carries_the_headers(pgq: PgQueue, method: str, path: str, status: int) -> None:
    async with client_of(status_app(pgq, local_reading=True)) as client:
        response = await client.request(method, path)

    assert response.status_code == status
    assert {name: response.headers.get(name) for name in HEADERS} == HEADERS


async def test_nothing_is_loaded_from_elsewhere_run_in_line_or_framed() -> None:
    policy = dict(part.split(" ", 1) for part in HEADERS["Content-Security-Policy"].split("; "))

    assert policy == {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "img-src": "'self' data:",
        "connect-src": "'self'",
        "form-action": "'self'",
        "frame-ancestors": "'none'",
        "base-uri": "'none'",
    }


async def test_they_hold_for_the_app_alone_where_it_is_mounted(pgq: PgQueue) -> None:
    outer = Starlette(
        routes=[Route("/own", own_headers), Mount("/queue", app=status_app(pgq, local_reading=True))]
    )

    async with client_of(outer) as client:
        inside, outside = await client.get("/queue/livez"), await client.get("/own")

    assert inside.headers["x-content-type-options"] == "nosniff"
    assert "content-security-policy" not in outside.headers


async def test_headers_that_a_response_sets_itself_stay() -> None:
    async with client_of(guarded()) as client:
        response = await client.get("/own")

    assert response.headers.get_list("cache-control") == ["max-age=60"]


async def test_a_bug_is_a_500_problem_without_details_and_logged_with_them(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.ERROR, "pgqueue.web"):
        async with client_of(guarded()) as client:
            response = await client.get("/fail")

    assert (response.status_code, response.headers["content-type"]) == (500, "application/problem+json")
    assert response.headers["x-content-type-options"] == "nosniff"
    assert "hunter2" not in response.text
    assert "GET /fail failed" in caplog.text
    assert "RuntimeError: password=hunter2" in caplog.text


async def test_half_an_answer_is_not_made_to_look_whole() -> None:
    async with client_of(guarded()) as client:
        with pytest.raises(RuntimeError, match="hunter2"):
            await client.get("/halfway")


async def test_addresses_and_headers_are_bounded() -> None:
    async with client_of(guarded()) as client:
        path = await client.get("/" + "x" * 8192)
        query = await client.get("/own?" + "x" * 8192)
        headers = await client.get("/own", headers={"X-Long": "x" * 33_000})
        many = await client.get("/own", headers=[(f"x-{number}", "x" * 100) for number in range(400)])
        usual = await client.get("/own", headers={"Cookie": "x" * 4096})

    assert [each.status_code for each in (path, query, headers, many, usual)] == [414, 414, 431, 431, 200]
    assert path.json()["detail"] == "the URL must be at most 8,192 bytes long, got 8,193"
    assert headers.headers["content-type"] == "application/problem+json"
