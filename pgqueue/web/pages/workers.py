"""The page of workers: what each is running, and its health."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pgqueue.errors import JobNotFoundError
from pgqueue.model.measures import RunningJob, WorkerMeasure
from pgqueue.web.pages.page import Pages

JOBS: Final = 10
"""Jobs shown per worker."""
SLOW_LOOP: Final = 0.5
"""Event-loop lag, in seconds, that is marked as slow."""


def routes(pages: Pages) -> list[Route]:
    """Return the page's route."""

    async def show(request: Request) -> Response:
        await pages.access.check(request, "read", "workers")
        workers = await pages.pgq.list_workers(jobs=JOBS)
        return pages.render(
            request,
            "workers.html",
            section="workers",
            events="/events",
            workers=[await visible(request, worker) for worker in workers],
            slow_loop=SLOW_LOOP,
            now=await pages.pgq.now(),
        )

    async def visible(request: Request, worker: WorkerMeasure) -> WorkerMeasure:
        """Return *worker* with the jobs that exist for the requester."""
        if pages.settings.owns is None:
            return worker
        return replace(worker, jobs=[job for job in worker.jobs if await is_owned(request, job)])

    async def is_owned(request: Request, running: RunningJob) -> bool:
        try:
            job = await pages.pgq.get(running.job_id)
        except JobNotFoundError:
            return False
        return await pages.access.owns(request, job)

    return [Route("/workers", show)]
