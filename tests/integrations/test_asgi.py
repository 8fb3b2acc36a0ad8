"""Web frameworks that are given an open PgQueue, by the pages that say how."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import re
import subprocess
import sys
import warnings
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Annotated, Any
from uuid import UUID

import anyio
import httpx
import pytest
from fastapi import Depends, FastAPI
from fastapi.testclient import TestClient
from kit.snippets import ROOT, run, snippets
from kit.waiting import eventually
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.websockets import WebSocket

from pgqueue import ConfigurationError, DatabaseUnavailableError, NotOpenError, PgQueue
from pgqueue.integrations.fastapi import Queue, lifespan, queue_of


class Mail:
    """A PgQueue, and its task."""

    def __init__(self, dsn: str) -> None:
        self.pgq = PgQueue(dsn)

        @self.pgq.task
        async def send_email(to: str, subject: str) -> str:
            return f"{subject} {to}"


@pytest.fixture
def mail(dsn: str) -> Mail:
    return Mail(dsn)


@pytest.fixture
def names(dsn: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What a file knows that is run as its page says: where the database is, and no names."""
    monkeypatch.setenv("PGQUEUE_DSN", dsn)
    return {"__name__": __name__}


def wait_for(pgq: PgQueue, client: TestClient, job_id: str) -> Any:
    """Return the result of a job, from a test without an event loop."""
    assert client.portal is not None
    return client.portal.call(pgq.handle(job_id).result, 60)


@pytest.mark.contract("P6.15")
async def test_the_page_on_fastapi_does_what_it_says(names: dict[str, Any]) -> None:
    first, with_worker, with_state, dashboard, overridden = snippets("how-to/fastapi.md", "python")
    await run(first, names)
    plain, pgq = names["app"], names["pgq"]
    await run(with_worker, names)
    working = names["app"]
    working.router.routes += [each for each in plain.router.routes if each not in working.router.routes]
    await run(with_state, names)
    cached = names["app"]
    await run(dashboard, names)
    await run(overridden, names)

    def in_a_thread() -> tuple[str, str, int, list[str]]:
        with TestClient(plain) as client:
            job_id = client.post("/sign-up?address=a@b.c").json()
        with TestClient(working) as client:
            result = wait_for(pgq, client, job_id)
        with TestClient(cached) as client:
            status = client.get("/queue/jobs", headers={"authorization": "Bearer sixteen-characters-or-more"})
            state = sorted(client.app_state)
        return job_id, result, status.status_code, state

    _, result, status, state = await asyncio.to_thread(in_a_thread)

    assert result == "Welcome! a@b.c"
    assert status == 200
    assert state == ["cache", "pgqueue"]
    assert cached.dependency_overrides[queue_of]() is pgq


@pytest.mark.contract("P6.15")
async def test_the_page_on_starlette_does_what_it_says(names: dict[str, Any]) -> None:
    [code] = snippets("how-to/starlette.md", "python")
    await run(code, names)
    pgq = names["pgq"]

    def in_a_thread() -> int:
        with TestClient(names["app"]) as client:
            status = client.post("/sign-up?address=a@b.c").status_code
            assert client.portal is not None
            client.portal.call(has_sent)
            return status

    async def has_sent() -> None:
        [job] = (await pgq.jobs()).jobs
        assert await pgq.handle(job.id).result(60) == "Welcome! a@b.c"

    assert await asyncio.to_thread(in_a_thread) == 202


@pytest.fixture
def logging_as_it_was() -> Iterator[None]:
    """Litestar has the root logger take everything, from then on, and write it in a thread of its own."""
    root = logging.getLogger()
    level, handlers = root.level, [*root.handlers]
    yield
    for handler in {*root.handlers} - {*handlers}:
        root.removeHandler(handler)
        handler.close()
    root.setLevel(level)


@pytest.mark.usefixtures("logging_as_it_was")
async def test_the_page_on_litestar_does_what_it_says(names: dict[str, Any]) -> None:
    with warnings.catch_warnings():
        # Its own imports are older than the Python that runs them.
        warnings.simplefilter("ignore", DeprecationWarning)
        from litestar.testing import TestClient as LitestarClient

        [code] = snippets("how-to/litestar.md", "python")
        await run(code, names)

    def in_a_thread() -> str:
        with LitestarClient(names["app"]) as client:
            job_id = client.post("/sign-up?address=a@b.c").text
            return str(client.blocking_portal.call(names["pgq"].handle(job_id).result, 60))

    assert await asyncio.to_thread(in_a_thread) == "Welcome! a@b.c"


async def test_the_page_on_flask_does_what_it_says(
    names: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("atexit.register", lambda *_: None)
    [code] = snippets("how-to/flask.md", "python")
    await run(code, names)

    try:
        answer = await asyncio.to_thread(names["app"].test_client().post, "/sign-up/a@b.c")
    finally:
        names["queue"].__exit__(None, None, None)
    async with names["pgq"] as pgq, pgq.worker():
        result = await pgq.handle(answer.text).result(timeout=60)

    assert (answer.status_code, result) == (202, "Welcome! a@b.c")


async def depth(queue: Queue) -> int:
    return sum(each.pending for each in await queue.measure())


async def test_an_endpoint_a_dependency_and_a_websocket_are_given_the_queue(mail: Mail) -> None:
    async def ask(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_text(str(queue_of(websocket) is mail.pgq))
        await websocket.close()

    async def mounted(request: Request) -> JSONResponse:
        return JSONResponse(queue_of(request) is mail.pgq)

    app = FastAPI(lifespan=lifespan(mail.pgq))
    app.router.routes.append(WebSocketRoute("/socket", ask))
    app.router.routes.append(Mount("/below", Starlette(routes=[Route("/", mounted)])))

    @app.get("/")
    async def read(pending: Annotated[int, Depends(depth)]) -> int:
        return pending

    def in_a_thread() -> tuple[int, str, bool]:
        with TestClient(app) as client, client.websocket_connect("/socket") as socket_:
            return client.get("/").json(), socket_.receive_text(), client.get("/below/").json()

    assert await asyncio.to_thread(in_a_thread) == (0, "True", True)


async def test_an_app_whose_lifespan_did_not_run_says_what_to_do(mail: Mail) -> None:
    app = FastAPI(lifespan=lifespan(mail.pgq))

    @app.get("/")
    async def read(queue: Queue) -> str:
        return queue.schema

    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://app") as client:
        with pytest.raises(NotOpenError, match=r"lifespan=lifespan\(pgq\)"):
            await client.get("/")


async def test_what_is_no_queue_or_no_worker_is_refused_when_the_app_is_made(mail: Mail) -> None:
    async with mail.pgq:
        worker: Any = mail.pgq.worker()
    nothing: Any = "postgresql://localhost/app"

    with pytest.raises(ConfigurationError, match="must be a PgQueue"):
        lifespan(nothing)
    with pytest.raises(ConfigurationError, match=r"such as pgq\.worker"):
        lifespan(mail.pgq, worker=worker)


async def test_an_app_without_its_database_fails_to_start_and_one_that_fails_leaves_nothing_open(
    mail: Mail,
) -> None:
    @asynccontextmanager
    async def broken(app: Starlette) -> AsyncIterator[None]:
        if app.routes == []:
            raise ValueError("no cache")
        yield

    lost: Any = lifespan(PgQueue("postgresql://127.0.0.1:1/app", connect_timeout=0.2))
    with pytest.raises(DatabaseUnavailableError):
        async with lost(Starlette()):
            pass
    with pytest.raises(ValueError, match="no cache"):
        async with lifespan(mail.pgq, around=broken)(Starlette()):
            pass

    # It can be opened again: it was closed.
    async with mail.pgq:
        gc.collect()


@pytest.mark.contract("P6.15")
async def test_the_example_serves_works_and_stops(dsn: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "uvicorn", "examples.fastapi_service:app", "--port", "0"),
        cwd=ROOT,
        env={**os.environ, "DATABASE_URL": dsn, "PGQUEUE_TOKEN": "a-secret-for-tests"},
        stderr=subprocess.PIPE,
    )
    assert process.stderr is not None
    log = ""
    try:
        with anyio.fail_after(180):
            while "running on" not in log:
                line = (await process.stderr.readline()).decode()
                assert line, log
                log += line
        [url] = re.findall(r"running on (http://[\d.:]+)", log)
        async with httpx.AsyncClient(base_url=url, timeout=60) as client:
            ordered = await client.post("/reports", json={"title": "2026", "pages": 3})
            refused = await client.post("/reports", json={"title": "2026", "pages": 0})
            await eventually(lambda: is_written(client, ordered.headers["location"]))
            written = await client.get(ordered.headers["location"])
            unknown = await client.get(f"/reports/{UUID(int=0)}")
            token = {"authorization": "Bearer a-secret-for-tests"}
            jobs = await client.get("/queue/jobs", headers=token)
        process.terminate()
        with anyio.fail_after(180):
            log += (await process.stderr.read()).decode()
            code = await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()

    assert (ordered.status_code, refused.status_code, unknown.status_code) == (202, 422, 404)
    assert written.json() == {"status": "succeeded", "progress": 1.0, "report": "2026, 3 pages"}
    assert [job["job_id"] for job in jobs.json()["jobs"]] == [ordered.json()]
    assert "Application shutdown complete" in log
    assert "Traceback" not in log
    assert code in {0, -15}


async def is_written(client: httpx.AsyncClient, location: str) -> bool:
    return (await client.get(location)).json()["report"] is not None
