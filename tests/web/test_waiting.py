"""Long polls: answered when the job has changed, or when the wait is over."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import anyio
import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit import inside
from kit.streams import waiting_job
from kit.waiting import eventually
from kit.web_server import serving
from starlette.exceptions import HTTPException

from pgqueue import PgQueue
from pgqueue.cli.running.http_server import serving as program_serving
from pgqueue.cli.running.sockets import listen
from pgqueue.web import status_app
from pgqueue.web.http.etags import matches
from pgqueue.web.live.long_poll import Wait, read_wait

WITHIN = 60.0
LONG = 50.0
"""Longer than anything here takes: a wait that is not cut short fails the test."""


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pgqueue.background.watching.POLL_INTERVAL", 0.1)


@pytest.fixture
async def url(pgq: PgQueue) -> AsyncIterator[str]:
    async with serving(status_app(pgq, local_reading=True, max_wait=LONG, max_waiters=1)) as url:
        yield url


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(timeout=WITHIN) as client:
        yield client


async def until_watched(pgq: PgQueue) -> None:
    async def is_watched() -> bool:
        return inside.watches(pgq).is_watching

    await eventually(is_watched)


# What is asked for


@given(st.floats(0, 1e8), st.floats(0.1, 100))
def test_a_wait_is_never_longer_than_the_longest(asked: float, longest: float) -> None:
    wait = read_wait(f"{asked:.6f}", [], longest=longest)

    assert wait is not None
    assert wait.seconds == pytest.approx(min(asked, longest), abs=1e-6)


@pytest.mark.parametrize(
    "query",
    ["", "soon", "-1", "nan", "inf", "-inf", "1e999", "1,5", "0x10", "5s", "1_0", "1e3", "\u0663", "9" * 99],
)
def test_a_wait_that_is_no_number_of_seconds_is_refused(query: str) -> None:
    with pytest.raises(HTTPException, match="must be a number of seconds") as raised:
        read_wait(query, ["wait=5"], longest=30)

    assert raised.value.status_code == 422


@pytest.mark.parametrize(
    ("prefer", "seconds"),
    [
        (["wait=5"], 5),
        (["Wait = 5"], 5),
        (['wait="5"'], 5),
        (["respond-async, wait=5"], 5),
        (["respond-async", "wait=5"], 5),
        (["wait=5, wait=9"], 5),
        (["respond-async; wait=5"], None),
        (["wait=5; patiently=yes"], 5),
        (["wait=500"], 30),
        (["wait=soon"], None),
        (["wait=-1"], None),
        (["wait=1.5"], None),
        (["await=5"], None),
        (["wait"], None),
        ([""], None),
        ([], None),
    ],
)
def test_a_preference_is_read_as_rfc_7240_has_it(prefer: list[str], seconds: float | None) -> None:
    expected = None if seconds is None else Wait(seconds, is_preference=True)

    assert read_wait(None, prefer, longest=30) == expected


def test_the_query_counts_before_the_preference() -> None:
    assert read_wait("2", ["wait=5"], longest=30) == Wait(2)


@pytest.mark.parametrize("condition", ['"v"', 'W/"v"', '"a", "v"', "*", '"a",W/"v"'])
def test_a_condition_that_names_the_version_matches(condition: str) -> None:
    assert matches(condition, "v")


@pytest.mark.parametrize("condition", ['"w"', "", '"a", "b"', "vv"])
def test_a_condition_that_names_others_does_not(condition: str) -> None:
    assert not matches(condition, "v")


# What is answered


@pytest.mark.contract("P6.8")
async def test_a_long_poll_returns_when_the_job_changes(
    pgq: PgQueue, url: str, client: httpx.AsyncClient
) -> None:
    job = await waiting_job(pgq)

    polling = asyncio.create_task(client.get(f"{url}/jobs/{job.id}", params={"wait": LONG}))
    await until_watched(pgq)
    await job.cancel()
    with anyio.fail_after(LONG):
        answer = await polling

    assert (answer.status_code, answer.json()["status"]) == (200, "cancelled")
    assert not inside.watches(pgq).is_watching


@pytest.mark.contract("P6.8")
async def test_a_long_poll_returns_at_once_when_the_job_is_over(
    pgq: PgQueue, url: str, client: httpx.AsyncClient
) -> None:
    job = await waiting_job(pgq)
    await job.cancel()

    with anyio.fail_after(LONG):
        answer = await client.get(f"{url}/jobs/{job.id}", params={"wait": LONG})

    assert answer.json()["status"] == "cancelled"


@pytest.mark.contract("P6.8")
async def test_a_long_poll_returns_at_once_when_the_job_is_not_as_the_client_knows_it(
    pgq: PgQueue, url: str, client: httpx.AsyncClient
) -> None:
    job = await waiting_job(pgq)
    headers = {"If-None-Match": '"as it was"', "Prefer": f"wait={LONG:.0f}"}

    with anyio.fail_after(LONG):
        answer = await client.get(f"{url}/jobs/{job.id}", headers=headers)

    assert (answer.status_code, answer.json()["status"]) == (200, "pending")


@pytest.mark.contract("P6.8")
async def test_a_long_poll_with_a_condition_waits_for_what_the_client_does_not_know(
    pgq: PgQueue, url: str, client: httpx.AsyncClient
) -> None:
    job = await waiting_job(pgq)
    known = (await client.get(f"{url}/jobs/{job.id}")).headers["etag"]
    headers = {"If-None-Match": known, "Prefer": "wait=49"}

    polling = asyncio.create_task(client.get(f"{url}/jobs/{job.id}", headers=headers))
    await until_watched(pgq)
    await job.cancel()
    with anyio.fail_after(LONG):
        answer = await polling

    assert answer.json()["status"] == "cancelled"
    assert answer.headers["preference-applied"] == "wait=49"


@pytest.mark.contract("P6.8")
async def test_what_does_not_show_is_no_change(pgq: PgQueue, url: str, client: httpx.AsyncClient) -> None:
    job = await waiting_job(pgq)
    polling = asyncio.create_task(client.get(f"{url}/jobs/{job.id}", params={"wait": LONG}))
    await until_watched(pgq)
    seen = pgq.watch(job.id)
    with anyio.fail_after(WITHIN):
        await anext(seen)
        await pgq.reprioritise(job.id, 7)
        await anext(seen)
    answered_to_the_priority = polling.done()
    await seen.aclose()
    await job.cancel()

    assert not answered_to_the_priority
    assert (await polling).json()["status"] == "cancelled"


@pytest.mark.contract("P6.8")
async def test_after_the_wait_the_job_is_shown_unchanged(
    pgq: PgQueue, url: str, client: httpx.AsyncClient
) -> None:
    job = await waiting_job(pgq)

    answer = await client.get(f"{url}/jobs/{job.id}", params={"wait": 0.05})
    headers = {"If-None-Match": answer.headers["etag"]}
    unchanged = await client.get(f"{url}/jobs/{job.id}", params={"wait": 0.05}, headers=headers)

    assert (answer.status_code, answer.json()["status"]) == (200, "pending")
    assert (unchanged.status_code, unchanged.content) == (304, b"")
    assert not inside.watches(pgq).is_watching


@pytest.mark.contract("P6.8")
async def test_long_polls_are_bounded_and_a_client_that_hangs_up_makes_room(
    pgq: PgQueue, url: str, client: httpx.AsyncClient
) -> None:
    job = await waiting_job(pgq)
    long_poll = f"{url}/jobs/{job.id}?wait={LONG}"
    polling = asyncio.create_task(client.get(long_poll))
    await until_watched(pgq)

    refused = await client.get(long_poll)
    plain = await client.get(f"{url}/jobs/{job.id}")
    polling.cancel()

    async def has_place() -> bool:
        return (await client.get(f"{url}/jobs/{job.id}?wait=0.01")).status_code == 200

    await eventually(has_place)
    assert (refused.status_code, refused.headers["content-type"]) == (503, "application/problem+json")
    assert int(refused.headers["retry-after"]) > 0
    assert plain.status_code == 200


@pytest.mark.contract("P6.8")
@pytest.mark.parametrize("serve", ["uvicorn", "a program that keeps signals to itself"])
async def test_a_server_that_stops_answers_long_polls_first(
    pgq: PgQueue, client: httpx.AsyncClient, serve: str
) -> None:
    job = await waiting_job(pgq)
    app = status_app(pgq, local_reading=True, max_wait=2 * WITHIN)
    server = (
        serving(app, grace=None)
        if serve == "uvicorn"
        else program_serving(app, listen("127.0.0.1", 0), grace=2 * int(WITHIN))
    )

    with anyio.fail_after(WITHIN):
        async with server as url:
            polling = asyncio.create_task(client.get(f"{url}/jobs/{job.id}?wait={2 * WITHIN}"))
            await until_watched(pgq)
        answer = await polling

    assert (answer.status_code, answer.json()["status"]) == (200, "pending")


@pytest.mark.contract("P6.8")
async def test_a_malformed_wait_is_a_problem(pgq: PgQueue, url: str, client: httpx.AsyncClient) -> None:
    job = await waiting_job(pgq)

    answer = await client.get(f"{url}/jobs/{job.id}?wait=soon")

    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
    assert "got 'soon'" in answer.json()["detail"]


@pytest.mark.contract("P6.8")
async def test_a_job_that_is_gone_meanwhile_is_not_found(
    pgq: PgQueue, url: str, client: httpx.AsyncClient
) -> None:
    job = await waiting_job(pgq)
    polling = asyncio.create_task(client.get(f"{url}/jobs/{job.id}", params={"wait": LONG}))
    await until_watched(pgq)

    async with inside.database(pgq).acquire() as connection, connection.transaction():
        await connection.execute("delete from pgqueue.ready")
        await connection.execute("delete from pgqueue.job")
    with anyio.fail_after(LONG):
        answer = await polling

    assert answer.status_code == 404
