"""`GET /livez` and `GET /readyz`, for what starts, stops and routes to this process."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeAlias

import anyio
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from pgqueue.app import PgQueue
from pgqueue.database.outages import PASSING_ERRORS
from pgqueue.errors import BackgroundError, NotOpenError
from pgqueue.web.api.outputs import Health
from pgqueue.web.http.problems import NO_STORE, Problem

ANSWER_WITHIN = 5.0
"""Seconds after which a database that does not respond makes this process not ready."""


FindProblems: TypeAlias = Callable[[], Awaitable[list[str]]]


def routes(find_problems: FindProblems) -> list[Route]:
    """Return the routes about this process. *find_problems* returns why it is not ready."""

    async def livez(_: Request) -> Response:
        # The response itself is the sign of life. An unavailable database is no reason to restart.
        document: Health = {"status": "alive"}
        return JSONResponse(document, headers=NO_STORE)

    async def readyz(_: Request) -> Response:
        problems = await find_problems()
        if problems:
            return Problem(503, "; ".join(problems))
        document: Health = {"status": "ready"}
        return JSONResponse(document, headers=NO_STORE)

    return [Route("/livez", livez, name="livez"), Route("/readyz", readyz, name="readyz")]


async def find_problems(pgq: PgQueue) -> list[str]:
    """Return why this process is not ready; empty: it is."""
    return [*worker_problems(pgq), *await check_problems(pgq)]


def process_problems(pgq: PgQueue) -> list[str]:
    """Return why this process is not ready, as far as it knows by itself. Safe from any thread."""
    return [*worker_problems(pgq), *pgq.background_problems()]


def worker_problems(pgq: PgQueue) -> list[str]:
    """Return which workers of this process are not claiming jobs. Safe from any thread."""
    return [f"worker {worker.name} is not claiming jobs" for worker in pgq.workers if not worker.is_consuming]


async def check_problems(pgq: PgQueue) -> list[str]:
    """Return why the database, or the background of *pgq*, cannot be used; empty: they can."""
    try:
        with anyio.fail_after(ANSWER_WITHIN):
            await pgq.check()
    except NotOpenError:
        return ["pgqueue is not open"]
    except BackgroundError as error:
        return [str(error)]
    except PASSING_ERRORS:
        return ["the database is unavailable"]
    return []
