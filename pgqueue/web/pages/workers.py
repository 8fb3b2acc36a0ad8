"""The page of workers: what each is running, and its health."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pgqueue.web.pages.page import Pages

JOBS: Final = 10
"""Jobs shown per worker."""
SLOW_LOOP: Final = 0.5
"""Event-loop lag, in seconds, that is marked as slow."""


def routes(pages: Pages) -> list[Route]:
    """Return the page's route."""

    async def show(request: Request) -> Response:
        await pages.access.check_collection(request, "read", "workers")
        workers = await pages.pgq.list_workers(jobs=JOBS)
        running = (job.job_id for worker in workers for job in worker.jobs)
        visible = await pages.visible_ids(request, running)
        return pages.render(
            request,
            "workers.html",
            section="workers",
            events="/events",
            workers=[
                replace(worker, jobs=[job for job in worker.jobs if job.job_id in visible])
                for worker in workers
            ],
            slow_loop=SLOW_LOOP,
            now=await pages.pgq.now(),
        )

    return [Route("/workers", show)]
