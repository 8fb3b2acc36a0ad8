"""The pages of workers: all of them, and one with all that it is running."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pgqueue.model.measures import WorkerMeasure
from pgqueue.web.pages.page import Pages

JOBS: Final = 10
"""Jobs shown per worker."""
ALL_JOBS: Final = 1000
"""Jobs shown of one worker."""
SLOW_LOOP: Final = 0.5
"""Event-loop lag, in seconds, that is marked as slow."""


def busy(workers: Iterable[WorkerMeasure]) -> tuple[int, int | None]:
    """Return how many attempts are under way, and in how many slots; None: some workers do not say."""
    alive = [each for each in workers if each.is_alive]
    slots = [each.slots for each in alive]
    total = None if None in slots else sum(each or 0 for each in slots)
    return sum(each.running for each in alive), total


def routes(pages: Pages) -> list[Route]:
    """Return the pages' routes."""

    async def visible(request: Request, workers: list[WorkerMeasure]) -> list[WorkerMeasure]:
        """Return *workers* with those of their jobs that the requester may see."""
        running = (job.job_id for worker in workers for job in worker.jobs)
        seen = await pages.visible_ids(request, running)
        return [
            replace(worker, jobs=[job for job in worker.jobs if job.job_id in seen]) for worker in workers
        ]

    async def show_all(request: Request) -> Response:
        await pages.access.check_collection(request, "read", "workers")
        workers = await pages.pgq.list_workers(jobs=JOBS)
        return pages.render(
            request,
            "workers.html",
            section="workers",
            events="/events",
            workers=await visible(request, workers),
            busy=busy(workers),
            slow_loop=SLOW_LOOP,
            now=await pages.pgq.now(),
        )

    async def show(request: Request) -> Response:
        await pages.access.check_collection(request, "read", "workers")
        lease_id = request.path_params["id"]
        workers = await pages.pgq.list_workers(jobs=ALL_JOBS)
        chosen = [each for each in workers if str(each.lease_id) == lease_id]
        if not chosen:
            raise HTTPException(404, "this worker has stopped, or has a new lease after it was cut off")
        [worker] = await visible(request, chosen)
        return pages.render(
            request,
            "worker.html",
            section="workers",
            is_top=False,
            events="/events",
            worker=worker,
            slow_loop=SLOW_LOOP,
            now=await pages.pgq.now(),
        )

    return [Route("/workers", show_all), Route("/workers/{id}", show)]
