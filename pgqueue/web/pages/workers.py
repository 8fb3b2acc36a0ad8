"""The page of workers: what each runs now, and whether it is well."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pgqueue.errors import JobNotFoundError
from pgqueue.model.measures import RunningJob, WorkerMeasure
from pgqueue.web.pages.page import Desk

JOBS: Final = 10
"""Of each worker."""
SLOW_LOOP: Final = 0.5
"""Seconds of lag from which on a loop is called slow."""


def routes(desk: Desk) -> list[Route]:
    """Return the page's route."""

    async def show(request: Request) -> Response:
        await desk.access.check(request, "read", "workers")
        workers = await desk.pgq.list_workers(jobs=JOBS)
        return desk.render(
            request,
            "workers.html",
            section="workers",
            events="/events",
            workers=[await visible(request, worker) for worker in workers],
            slow_loop=SLOW_LOOP,
            now=await desk.pgq.now(),
        )

    async def visible(request: Request, worker: WorkerMeasure) -> WorkerMeasure:
        """Return *worker* with the jobs that exist for the requester."""
        if desk.settings.owns is None:
            return worker
        return replace(worker, jobs=[job for job in worker.jobs if await is_owned(request, job)])

    async def is_owned(request: Request, running: RunningJob) -> bool:
        try:
            job = await desk.pgq.get(running.job_id)
        except JobNotFoundError:
            return False
        return await desk.access.owns(request, job)

    return [Route("/workers", show)]
