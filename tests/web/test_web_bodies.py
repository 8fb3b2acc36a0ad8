"""Bodies of requests: JSON, bounded, and read in one way only."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import anyio
import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit.web_client import client_of
from pydantic import BaseModel, ConfigDict
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from pgqueue.web.http import bodies
from pgqueue.web.http.bodies import MAX_DEPTH, parse_json, read_json
from pgqueue.web.http.problems import ProblemError, exception_handlers
from pgqueue.web.settings import WebSettings

TEXTS = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner),
    max_leaves=20,
)
JSON = {"content-type": "application/json"}


class Anything(BaseModel):
    """Takes whatever is an object."""

    model_config = ConfigDict(extra="allow")


def client_of_echo(settings: WebSettings) -> httpx.AsyncClient:
    """Return a client of an app that says what it was sent."""

    async def echo(request: Request) -> Response:
        return JSONResponse((await read_json(request, settings, Anything)).model_dump())

    app = Starlette(routes=[Route("/", echo, methods=["POST"])], exception_handlers=exception_handlers())
    return client_of(app)


async def post(settings: WebSettings, **request: Any) -> httpx.Response:
    async with client_of_echo(settings) as client:
        return await client.post("/", **request)


@given(VALUES)
def test_whatever_is_json_is_read_as_it_was_written(value: object) -> None:
    assert parse_json(json.dumps(value).encode()) == value


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"{", "not JSON"),
        (b"\xff", "not UTF-8"),
        (b'{"a": NaN}', "NaN is not a JSON number"),
        (b'{"a": -Infinity}', "-Infinity is not a JSON number"),
        (b'{"a": 1e999}', "too large"),
        (b'{"a": ' + b"9" * 5000 + b"}", "too many digits"),
        (b'{"a": 1, "b": {"c": 1, "c": 2}}', "the key 'c' twice"),
        (b'{"a": "\\u0000"}', "NUL"),
        (b'{"\\u0000": 1}', "NUL"),
        (b'{"a": "\\ud800"}', "surrogate"),
        (b"[" * 100_000, "deeper"),
        (b"[" * (MAX_DEPTH + 1) + b"1" + b"]" * (MAX_DEPTH + 1), "deeper"),
    ],
)
def test_what_could_be_read_in_two_ways_or_not_be_stored_is_refused(body: bytes, says: str) -> None:
    with pytest.raises(ProblemError, match=says) as refused:
        parse_json(body)

    assert refused.value.status_code == 422


def test_what_is_as_deep_as_allowed_is_read() -> None:
    body = b"[" * MAX_DEPTH + b"1" + b"]" * MAX_DEPTH

    assert json.dumps(parse_json(body)).encode() == body


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"content-type": "application/json"}, 200),
        ({"content-type": 'Application/JSON; charset="UTF-8"'}, 200),
        ({"content-type": "application/json; charset=latin-1"}, 415),
        ({"content-type": "application/x-www-form-urlencoded"}, 415),
        ({"content-type": "text/plain"}, 415),
        ({}, 415),
        ({"content-type": "application/json", "content-encoding": "gzip"}, 415),
    ],
)
async def test_only_plain_json_is_taken(headers: dict[str, str], status: int) -> None:
    response = await post(WebSettings(), content=b'{"a": 1}', headers=headers)

    assert response.status_code == status
    assert status == 200 or response.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("body", [b"[1]", b"1", b"null", b'"a"'])
async def test_json_that_is_not_an_object_is_refused(body: bytes) -> None:
    response = await post(WebSettings(), content=body, headers=JSON)

    assert (response.status_code, response.json()["detail"][:19]) == (422, "the body is invalid")


async def test_a_body_that_is_left_out_is_an_empty_object() -> None:
    async with client_of_echo(WebSettings()) as client:
        empty, given = await client.post("/"), await client.post("/", json={"a": 1})

    assert (empty.json(), given.json()) == ({}, {"a": 1})


async def test_a_body_that_is_too_long_is_refused_with_or_without_content_length() -> None:
    settings = WebSettings(body_limit=100)
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 1
            yield b" " * 60

    announced = await post(settings, content=b"x" * 101, headers=JSON)
    streamed = await post(settings, content=endless(), headers=JSON)

    assert (announced.status_code, streamed.status_code) == (413, 413)
    # As much of it was read as tells.
    assert sent <= 4


async def test_a_body_that_does_not_come_is_waited_for_for_a_while_only() -> None:
    async def slow() -> AsyncIterator[bytes]:
        yield b"{"
        await anyio.sleep_forever()

    with anyio.fail_after(60):
        response = await post(WebSettings(body_timeout=0.05), content=slow(), headers=JSON)

    assert response.status_code == 408
    assert response.json()["detail"] == "the body did not arrive within 0.05 s"


@pytest.mark.contract("W28")
@pytest.mark.parametrize(
    "body",
    [
        b"[" + b",".join([b"[]"] * 349_000) + b"]",
        b"[" + b",".join([b'""'] * 349_000) + b"]",
        b'{"a":' * 100_001 + b"1" + b"}" * 100_001,
        b"[" + b",".join([b'"\\\\",{}'] * 60_000) + b"]",
    ],
    ids=["arrays", "strings", "depth", "behind escapes"],
)
def test_a_text_of_too_many_values_is_refused_before_they_are_made(
    body: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "_loads", None)

    with pytest.raises(ProblemError, match="contains more than 50,000 values"):
        parse_json(body)


@pytest.mark.contract("W28")
@pytest.mark.parametrize(
    "text", ["," * 200_000, '"' * 200_000, "\\" * 99_999 + ",", '\\",[{:' * 40_000], ids=str.__len__
)
def test_marks_inside_a_string_do_not_count(text: str) -> None:
    assert parse_json(json.dumps({"a": text}).encode()) == {"a": text}


@pytest.mark.contract("W28")
@given(VALUES)
def test_what_has_fewer_values_is_never_refused(document: Any) -> None:
    def count(value: Any) -> int:
        if isinstance(value, dict):
            return 1 + len(value) + sum(map(count, value.values()))
        return 1 + sum(map(count, value)) if isinstance(value, list) else 1

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bodies, "MAX_VALUES", count(document))
        assert parse_json(json.dumps(document).encode()) == document
