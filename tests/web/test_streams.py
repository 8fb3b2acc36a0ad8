"""Event streams over HTTP, on a real server: changes arrive, clients resume, places are given back."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

import anyio
import httpx
import pytest
from httpx_sse import ServerSentEvent
from kit import inside
from kit.streams import WITHIN, following, listening, waiting_job
from kit.waiting import eventually
from kit.web_server import serving
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Mount

from pgqueue import Job, PgQueue
from pgqueue.cli.running.http_server import serving as program_serving
from pgqueue.cli.running.sockets import listen
from pgqueue.model.ids import new_id
from pgqueue.web import status_app


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(timeout=WITHIN) as client:
        yield client


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pgqueue.background.watching.POLL_INTERVAL", 0.1)


def nobody_watches(pgq: PgQueue) -> Callable[[], Awaitable[bool]]:
    async def is_so() -> bool:
        return not inside.watches(pgq).is_watching

    return is_so


@pytest.mark.contract("P6.8")
async def test_a_stream_tells_the_state_of_a_job_and_each_change_until_it_ends(
    pgq: PgQueue, client: httpx.AsyncClient
) -> None:
    go_on = anyio.Event()

    @pgq.task
    async def work() -> str:
        await go_on.wait()
        return "done"

    job = await work.enqueue()
    async with (
        serving(status_app(pgq, local_reading=True)) as url,
        listening(client, f"{url}/jobs/{job.id}/events") as stream,
    ):
        source, events = stream
        told = [await following(events)]
        async with pgq.worker():
            told.append(await following(events))
            go_on.set()
            with anyio.fail_after(WITHIN):
                told += [event async for event in events]
        polled = (await client.get(f"{url}/jobs/{job.id}")).json()

    assert source.response.headers["content-type"].startswith("text/event-stream")
    assert source.response.headers["cache-control"] == "no-store"
    assert {event.event for event in told} == {"job"}
    assert [event.json()["status"] for event in told] == ["pending", "running", "succeeded"]
    assert told[-1].json() == polled
    assert len({event.id for event in told}) == len(told)


@pytest.mark.contract("P6.8")
async def test_a_client_that_connects_again_is_told_nothing_twice(
    pgq: PgQueue, client: httpx.AsyncClient
) -> None:
    job = await waiting_job(pgq)
    async with serving(status_app(pgq, local_reading=True)) as url:
        events_url = f"{url}/jobs/{job.id}/events"
        async with listening(client, events_url) as (_, events):
            first = await following(events)
        async with listening(client, events_url, last=first.id) as (_, events):
            listens = asyncio.create_task(following(events))

            async def is_watched() -> bool:
                return inside.watches(pgq).is_watching

            await eventually(is_watched)
            await job.cancel()
            resumed = await listens
        async with listening(client, events_url, last="of another time") as (_, events):
            from_an_unknown_version = await following(events)

    assert first.json()["status"] == "pending"
    assert resumed.json()["status"] == "cancelled"
    assert from_an_unknown_version.json() == resumed.json()


@pytest.mark.contract("P6.8")
async def test_a_client_that_knows_the_end_is_told_not_to_come_again(
    pgq: PgQueue, client: httpx.AsyncClient
) -> None:
    job = await waiting_job(pgq)
    await job.cancel()
    async with serving(status_app(pgq, local_reading=True)) as url:
        events_url = f"{url}/jobs/{job.id}/events"
        async with listening(client, events_url) as (_, events):
            end = await following(events)

        again = await client.get(events_url, headers={"Last-Event-ID": end.id})

    assert end.json()["is_terminal"] is True
    assert (again.status_code, again.content) == (204, b"")


@pytest.mark.contract("P6.8")
async def test_an_idle_stream_keeps_its_connection_and_says_when_to_reconnect(
    pgq: PgQueue, client: httpx.AsyncClient
) -> None:
    job = await waiting_job(pgq)
    lines: list[str] = []
    async with (
        serving(status_app(pgq, local_reading=True, keep_alive=0.01)) as url,
        client.stream("GET", f"{url}/jobs/{job.id}/events") as response,
    ):
        with anyio.fail_after(WITHIN):
            async for line in response.aiter_lines():
                lines.append(line)
                if lines.count(": keep-alive") == 2:
                    break

    assert "retry: 3000" in lines


@pytest.mark.contract("P6.8")
async def test_a_hundred_streams_share_one_look_an_interval(
    pgq: PgQueue, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = await waiting_job(pgq)
    polls: list[int] = []
    read_versions = inside.store(pgq).read_versions

    async def count(connection: Any, ids: list[Any]) -> dict[Any, tuple[bool, str]]:
        polls.append(len(ids))
        return await read_versions(connection, ids)

    monkeypatch.setattr(inside.store(pgq), "read_versions", count)
    limits = httpx.Limits(max_connections=None)
    async with (
        serving(status_app(pgq, local_reading=True)) as url,
        httpx.AsyncClient(timeout=WITHIN, limits=limits) as many,
    ):
        told: list[str] = []

        async def listen() -> None:
            async with listening(many, f"{url}/jobs/{job.id}/events") as (_, events):
                async for event in events:
                    told.append(event.json()["status"])  # noqa: PERF401  # others look at it meanwhile

        with anyio.fail_after(WITHIN):
            async with anyio.create_task_group() as group:
                for _ in range(100):
                    group.start_soon(listen)
                while len(told) < 100:  # noqa: ASYNC110  # it is a list
                    await anyio.sleep(0.01)
                polls_before = len(polls)
                while len(polls) < polls_before + 2:  # noqa: ASYNC110  # it is a list
                    await anyio.sleep(0.01)
                await job.cancel()

    # One job in each statement: a hundred streams did not make it a hundred.
    assert set(polls) == {1}
    assert sorted(told) == ["cancelled"] * 100 + ["pending"] * 100


@pytest.mark.contract("P6.8")
async def test_a_client_that_hangs_up_makes_room_for_another(pgq: PgQueue, client: httpx.AsyncClient) -> None:
    job = await waiting_job(pgq)
    async with serving(status_app(pgq, local_reading=True, max_streams=1)) as url:
        events_url = f"{url}/jobs/{job.id}/events"
        async with listening(client, events_url) as (_, events):
            await following(events)
            refused = await client.get(events_url)

        await eventually(nobody_watches(pgq))
        async with listening(client, events_url) as (_, events):
            after = await following(events)

    assert (refused.status_code, refused.headers["content-type"]) == (503, "application/problem+json")
    assert int(refused.headers["retry-after"]) > 0
    assert "too many event streams (limit 1)" in refused.json()["detail"]
    assert after.json()["status"] == "pending"


@pytest.mark.contract("P6.8")
async def test_a_client_that_never_reads_is_dropped(dsn: str, client: httpx.AsyncClient) -> None:
    async with PgQueue(dsn, payload_limit=16 * 1024 * 1024) as pgq:

        @pgq.task
        async def work() -> str:
            # More than sockets take in by themselves.
            return "x" * 8 * 1024 * 1024

        other = await waiting_job(pgq)
        async with pgq.worker():
            job = await work.enqueue()
            await job.result(timeout=WITHIN)
        async with serving(status_app(pgq, local_reading=True, max_streams=1, send_timeout=0.2)) as url:

            async def places_taken() -> int:
                async with client.stream("GET", f"{url}/jobs/{other.id}/events") as response:
                    return int(response.status_code == 503)

            async def is_dropped() -> bool:
                return await places_taken() == 0

            address = urlsplit(url)
            with socket.socket() as silent:
                silent.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                silent.connect((str(address.hostname), address.port))
                silent.sendall(f"GET /jobs/{job.id}/events HTTP/1.1\r\nHost: test\r\n\r\n".encode())

                silent.setblocking(False)  # its name says what
                with anyio.fail_after(WITHIN):
                    begun = await asyncio.get_running_loop().sock_recv(silent, 1)
                await eventually(is_dropped)

    assert begun == b"H"


@pytest.mark.contract("P6.8")
async def test_a_stream_needs_a_get_permission_and_an_existing_job(
    pgq: PgQueue, client: httpx.AsyncClient
) -> None:
    job = await waiting_job(pgq)

    def owns(request: Request, _: Job) -> bool:
        return request.headers.get("user") == "owner"

    async with (
        serving(status_app(pgq, local_reading=True, owns=owns, actor=lambda _: "ann")) as url,
        serving(status_app(pgq, token="a-secret-for-tests")) as closed,
    ):
        path = f"/jobs/{job.id}/events"
        malformed = await client.get(f"{url}/jobs/7/events")
        unknown = await client.get(f"{url}/jobs/{new_id()}/events")
        of_others = await client.get(url + path, headers={"user": "other"})
        put = await client.put(url + path)
        head = await client.head(url + path, headers={"user": "owner"})
        without_token = await client.get(closed + path)

    assert [each.status_code for each in (malformed, unknown, of_others, put, without_token)] == [
        422,
        404,
        404,
        405,
        401,
    ]
    assert of_others.json()["detail"] == f"there is no job {job.id}"
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-type"].startswith("text/event-stream")
    assert not inside.watches(pgq).is_watching


@pytest.mark.contract("P6.8")
async def test_hostile_text_stays_in_its_event(pgq: PgQueue, client: httpx.AsyncClient) -> None:
    hostile = "a\n\nevent: job\ndata: {}\r\rid: 7 \u2028 \x85 <script> \U0001f600"

    @pgq.task
    async def work() -> str:
        return hostile

    async with pgq.worker():
        job = await work.enqueue()
        await job.result(timeout=WITHIN)
    async with (
        serving(status_app(pgq, local_reading=True)) as url,
        listening(client, f"{url}/jobs/{job.id}/events") as (_, events),
    ):
        with anyio.fail_after(WITHIN):
            told = [event async for event in events]

    assert [event.json()["result"] for event in told] == [hostile]


@pytest.mark.contract("P6.8")
async def test_streams_end_when_the_service_closes_its_pgqueue(dsn: str, client: httpx.AsyncClient) -> None:
    pgq = PgQueue(dsn)
    await pgq.open()
    try:
        job = await waiting_job(pgq)
        outer = Starlette(routes=[Mount("/queue", app=status_app(pgq, local_reading=True))])
        async with serving(outer) as url, listening(client, f"{url}/queue/jobs/{job.id}/events") as stream:
            _, events = stream
            await following(events)
            await pgq.close()
            with anyio.fail_after(WITHIN):
                rest = [event async for event in events]
            again = await client.get(f"{url}/queue/jobs/{job.id}/events")
    finally:
        await pgq.close()

    assert rest == []
    assert again.status_code == 503


SERVE = """
import asyncio, sys
import uvicorn
from pgqueue import PgQueue
from pgqueue.web import status_app

async def main():
    async with PgQueue(sys.argv[1]) as pgq:
        app = status_app(pgq, local_reading=True)
        await uvicorn.Server(uvicorn.Config(app, port=int(sys.argv[2]), log_level="info")).serve()

asyncio.run(main())
"""


@pytest.mark.contract("P6.8")
async def test_a_server_that_is_told_to_stop_ends_its_streams(
    pgq: PgQueue, dsn: str, client: httpx.AsyncClient
) -> None:
    job = await waiting_job(pgq)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", SERVE, dsn, str(port))
    try:

        async def answers() -> bool:
            try:
                return (await client.get(f"http://127.0.0.1:{port}/livez")).status_code == 200
            except httpx.TransportError:
                return False

        await eventually(answers)
        async with listening(client, f"http://127.0.0.1:{port}/jobs/{job.id}/events") as (_, events):
            await following(events)
            process.terminate()
            with anyio.fail_after(WITHIN):
                rest = [event async for event in events]
        with anyio.fail_after(WITHIN):
            await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()

    assert rest == []


@pytest.mark.contract("P6.8")
async def test_a_program_that_keeps_signals_to_itself_ends_streams_before_it_stops_the_server(
    pgq: PgQueue, client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    job = await waiting_job(pgq)
    begun = anyio.Event()

    async def hear(url: str) -> list[ServerSentEvent]:
        async with listening(client, f"{url}/jobs/{job.id}/events") as (_, events):
            await following(events)
            begun.set()
            return [event async for event in events]

    with caplog.at_level("ERROR"):
        async with program_serving(status_app(pgq, local_reading=True), listen("127.0.0.1", 0)) as url:
            hearing = asyncio.create_task(hear(url))
            with anyio.fail_after(WITHIN):
                await begun.wait()

    assert await hearing == []
    assert caplog.records == []


@pytest.mark.contract("P6.8")
async def test_a_server_that_stops_ends_streams_first(pgq: PgQueue, client: httpx.AsyncClient) -> None:
    job = await waiting_job(pgq)
    begun = anyio.Event()

    async def hear(url: str) -> list[ServerSentEvent]:
        async with listening(client, f"{url}/jobs/{job.id}/events") as (_, events):
            await following(events)
            begun.set()
            return [event async for event in events]

    with anyio.fail_after(WITHIN):
        async with serving(status_app(pgq, local_reading=True), grace=None) as url:
            hearing = asyncio.create_task(hear(url))
            await begun.wait()

        assert await hearing == []


async def test_without_the_extra_there_are_no_streams_and_the_response_names_it(
    pgq: PgQueue, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = await waiting_job(pgq)
    for name in ("pgqueue.web.live.event_source", "sse_starlette"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delattr("pgqueue.web.live.event_source", raising=False)

    async with serving(status_app(pgq, local_reading=True)) as url:
        response = await client.get(f"{url}/jobs/{job.id}/events")
        polled = await client.get(f"{url}/jobs/{job.id}")

    assert (response.status_code, response.headers["content-type"]) == (501, "application/problem+json")
    assert "pip install 'pgqueue-asyncio[web]'" in response.json()["detail"]
    assert polled.status_code == 200
