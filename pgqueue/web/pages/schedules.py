"""The pages of schedules: the list, one with its history, and the form that makes and changes them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlencode

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pgqueue.errors import PgQueueError
from pgqueue.model.jobs import JobStatus
from pgqueue.model.schedules import Schedule
from pgqueue.schedules.ticks import MISFIRES, OVERLAPS
from pgqueue.tasks.signature import Signature
from pgqueue.web.calls import hiding_secrets, scheduled_call
from pgqueue.web.http.problems import ProblemError
from pgqueue.web.pages.errors import explain
from pgqueue.web.pages.forms import read_form, reason_in
from pgqueue.web.pages.page import Pages, base_of
from pgqueue.web.pages.schedule_draft import Draft
from pgqueue.web.settings import Action

PAGE: Final = 25
TICKS: Final = 25
ACTIONS: Final[Sequence[Action]] = ("enqueue", "pause", "resume", "configure", "remove")
"""What one can do to a schedule."""
OUTCOMES: Final = {
    "enqueued": "made a job",
    "queued": "made a job that waits for the one before",
    "replaced": "made a job that waits for the one before, instead of another",
    "skipped": "made no job: the one before had not ended",
    "deleted": "the schedule was deleted, and made again later",
}


def last_outcome(schedule: Schedule, status: JobStatus | None) -> str:
    """Return how its last tick went, in words; *status*: of the job that it made last, if there is one."""
    if schedule.error is not None:
        return "could not tick"
    if schedule.last_at is None:
        return "has not ticked yet"
    if schedule.last_job is None:
        return "made no job"
    return "its job is no longer stored" if status is None else f"its job: {status}"


def routes(pages: Pages) -> list[Route]:
    """Return the routes of the pages and of their forms. A name can be any text: it is not in the path."""
    own = SchedulePages(pages)
    return [
        Route("/schedules", own.list),
        Route("/schedules/show", own.show),
        Route("/schedules/new", own.new),
        Route("/schedules/new", own.create, methods=["POST"]),
        Route("/schedules/edit", own.edit),
        Route("/schedules/edit", own.change, methods=["POST"]),
        Route("/schedules/pause", own.pause, methods=["POST"]),
        Route("/schedules/resume", own.resume, methods=["POST"]),
        Route("/schedules/run", own.run, methods=["POST"]),
        Route("/schedules/delete", own.delete, methods=["POST"]),
    ]


class SchedulePages:
    """The list of schedules, the page of one, and its forms."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages
        self._schedules = pages.pgq.schedules

    async def list(self, request: Request) -> Response:
        """Show schedules, by name."""
        await self._pages.access.check(request, "read", "schedules")
        after = request.query_params.get("cursor", "")
        found = await self._schedules.list(after=after, limit=PAGE + 1)
        shown = found[:PAGE]
        jobs = await self._pages.pgq.get_many(
            (each.last_job for each in shown if each.last_job is not None), large_results=False
        )
        rows = [
            (each, last_outcome(each, jobs[each.last_job].status if each.last_job in jobs else None))
            for each in shown
        ]
        here = f"{base_of(request)}/schedules"
        return self._pages.render(
            request,
            "schedules.html",
            section="schedules",
            may=await self._pages.offers(request, ("configure", "schedules")),
            events="" if after else "/events",
            schedules=rows,
            first=here if after else None,
            more=f"{here}?{urlencode({'cursor': shown[-1].name})}" if len(found) > PAGE else None,
            now=await self._pages.pgq.now(),
        )

    async def show(self, request: Request) -> Response:
        """Show one, with its next ticks and its latest."""
        found = await self._found(request)
        ticks = await self._schedules.history(found.name, limit=TICKS)
        jobs = await self._pages.pgq.get_many(
            (each.job_id for each in ticks if each.job_id is not None), large_results=False
        )
        return self._pages.render(
            request,
            "schedule.html",
            section="schedules",
            may=await self._pages.offers(request, *((each, f"schedule:{found.name}") for each in ACTIONS)),
            is_top=False,
            events="/events",
            schedule=found,
            ticks=[(tick, jobs.get(tick.job_id) if tick.job_id else None) for tick in ticks],
            outcomes=OUTCOMES,
            now=await self._pages.pgq.now(),
        )

    async def new(self, request: Request) -> Response:
        """Show the form of a new one."""
        await self._pages.access.check(request, "configure", "schedules")
        return self._form(request, Draft(), is_new=True)

    async def create(self, request: Request) -> Response:
        """Make one."""
        await self._pages.access.check(request, "configure", "schedules")
        form = await read_form(request, self._pages.settings, limit=self._pages.settings.body_limit)
        draft = Draft.of_form(form)
        await self._pages.access.check(request, "configure", f"schedule:{draft.name}")

        async def make() -> str:
            timing, notes = draft.timing(), self._notes(request, form)
            call = await self._call(request, draft)
            with hiding_secrets(self._pages.pgq, call):
                await self._schedules.create(draft.name, call, **timing, **notes)
            return "schedule_made"

        return await self._done(request, draft, make, is_new=True)

    async def edit(self, request: Request) -> Response:
        """Show the form of one that there is."""
        name = await self._named(request, "configure")
        return self._form(request, Draft.of_schedule(await self._schedules.get(name)), is_new=False)

    async def change(self, request: Request) -> Response:
        """Change one."""
        name = await self._named(request, "configure")
        before = Draft.of_schedule(await self._schedules.get(name))
        form = await read_form(request, self._pages.settings, limit=self._pages.settings.body_limit)
        draft = Draft.of_form({**form, "name": name})

        async def change() -> str:
            changes, notes = draft.changes_of(before), self._notes(request, form)
            if draft.has_call:
                call = await self._call(request, draft)
                with hiding_secrets(self._pages.pgq, call):
                    await self._schedules.edit(draft.name, call=call, **changes, **notes)
            elif changes:
                await self._schedules.edit(draft.name, **changes, **notes)
            else:
                return "nothing"
            return "schedule_changed"

        return await self._done(request, draft, change, is_new=False)

    async def pause(self, request: Request) -> Response:
        """Let it not tick."""
        return await self._set_paused(request, "pause", self._schedules.pause, "schedule_paused")

    async def resume(self, request: Request) -> Response:
        """Let it tick again."""
        return await self._set_paused(request, "resume", self._schedules.resume, "schedule_resumed")

    async def _set_paused(
        self, request: Request, action: Action, do: Callable[..., Awaitable[bool]], done: str
    ) -> Response:
        name = await self._named(request, action)
        form = await read_form(request, self._pages.settings)
        changed = await do(name, **self._notes(request, form))
        return self._go(request, name, done if changed else "nothing")

    async def run(self, request: Request) -> Response:
        """Have it tick now as well."""
        name = await self._named(request, "enqueue")
        form = await read_form(request, self._pages.settings)
        job_id = await self._schedules.run_now(name, **self._notes(request, form))
        return self._go(request, name, "schedule_skipped" if job_id is None else "schedule_ran")

    async def delete(self, request: Request) -> Response:
        """Remove it, and its history."""
        name = await self._named(request, "remove")
        form = await read_form(request, self._pages.settings)
        done = await self._schedules.delete(name, **self._notes(request, form))
        return self._pages.go(request, f"/schedules?done={'schedule_deleted' if done else 'nothing'}")

    async def _found(self, request: Request) -> Schedule:
        """Return the schedule that the address names. Raises HTTPException, ScheduleNotFoundError."""
        return await self._schedules.get(await self._named(request, "read"))

    async def _named(self, request: Request, action: Action) -> str:
        """Return the name in the address, if *request* may do *action* to it. Raises HTTPException."""
        # Not a field of the form: browsers change the line breaks of those.
        name = request.query_params.get("name", "")
        await self._pages.access.check(request, action, f"schedule:{name}")
        return name

    async def _call(self, request: Request, draft: Draft) -> Signature[Any]:
        pages = self._pages
        arguments, options = draft.call()
        return await scheduled_call(
            request, pages.pgq, pages.settings, pages.access, draft.task, arguments, options
        )

    def _notes(self, request: Request, form: Mapping[str, str]) -> dict[str, Any]:
        return {"actor": self._pages.actor(request), "reason": reason_in(form)}

    async def _done(
        self, request: Request, draft: Draft, do: Callable[[], Awaitable[str]], *, is_new: bool
    ) -> Response:
        """Do what the form asks for, or show it again with what is wrong."""
        try:
            done = await do()
        except (HTTPException, PgQueueError) as error:
            if explain(error)[0] not in (409, 413, 422):
                raise
            return self._form(request, draft, is_new=is_new, wrong=_wrong(error))
        return self._go(request, draft.name, done)

    def _form(self, request: Request, draft: Draft, *, is_new: bool, wrong: str | None = None) -> Response:
        return self._pages.render(
            request,
            "schedule_form.html",
            section="schedules",
            is_top=False,
            status=422 if wrong else 200,
            draft=draft,
            is_new=is_new,
            wrong=wrong,
            tasks=sorted(self._pages.pgq.registry.names),
            misfires=MISFIRES,
            overlaps=OVERLAPS,
        )

    def _go(self, request: Request, name: str, done: str) -> Response:
        return self._pages.go(request, f"/schedules/show?{urlencode({'name': name, 'done': done})}")


def _wrong(error: Exception) -> str:
    detail = explain(error)[1]
    if isinstance(error, ProblemError):
        named = [f"{each['field']}: {each['message']}" for each in error.members.get("errors", ())]
        return "; ".join([detail, *named])
    return detail
