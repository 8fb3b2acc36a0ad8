"""The pages of limits: the list, one with its keys, and one key with its jobs; and changing a limit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlencode

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pgqueue.flow.limits import FAIR, queue_of_window
from pgqueue.model.limits import MOST_OF_KEY, LimitUse
from pgqueue.model.measures import Count
from pgqueue.model.ordering import OrderedGroup
from pgqueue.model.rates import Rate
from pgqueue.web.pages.forms import decimal_in, number_in, read_form, reason_in
from pgqueue.web.pages.page import Pages, base_of
from pgqueue.web.settings import Action

PAGE: Final = 25
STOPPED: Final = 100
LIMITERS: Final = {"slots": "mutex or slots", "bucket": "bucket", "window": "window"}
WHEN_FULL: Final = {
    "wait": "waits",
    "drop": "is cancelled",
    "replace": "waits, and those that wait before it are cancelled",
}


def routes(pages: Pages) -> list[Route]:
    """Return the routes of the pages and of their forms. A name can be any text: it is not in the path."""
    own = LimitPages(pages)
    return [
        Route("/limits", own.list),
        Route("/limits/show", own.show),
        Route("/limits/key", own.key),
        Route("/limits/set", own.change, methods=["POST"]),
        Route("/limits/reset", own.reset, methods=["POST"]),
        Route("/limits/weight", own.weigh, methods=["POST"]),
        Route("/limits/ordered", own.ordered),
        Route("/limits/limiters", own.limiters),
        Route("/limits/ordered/resume", own.resume, methods=["POST"]),
    ]


def change_in(form: Mapping[str, str]) -> dict[str, Any]:
    """Return what a form sets, as `set_limit` takes it. Raises HTTPException 422."""
    what = "rate" if "count" in form else "slots"
    if form.get("any"):
        return {what: None}
    if what == "slots":
        slots = number_in(form, "slots")
        if slots < 1:
            raise HTTPException(422, f"slots must be at least 1, got {slots}")
        return {"slots": slots}
    count = decimal_in(form, "count")
    burst = number_in(form, "burst") if form.get("burst") else None
    return {"rate": Rate(count, burst=burst)}


class LimitPages:
    """The list of limits, the page of one, that of one of its keys, and the forms."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages
        self._pgq = pages.pgq

    async def list(self, request: Request) -> Response:
        """Show limits, by name."""
        await self._pages.access.check(request, "read", "limits")
        after = request.query_params.get("cursor", "")
        found = await self._pgq.limits(after=after, limit=PAGE)
        here = f"{base_of(request)}/limits"
        return self._pages.render(
            request,
            "limits.html",
            section="limits",
            events="" if after else "/events",
            limits=[(each, _counts(each)) for each in found],
            first=here if after else None,
            more=f"{here}?{urlencode({'cursor': found[-1].name})}" if len(found) == PAGE else None,
            now=await self._pgq.now(),
        )

    async def show(self, request: Request) -> Response:
        """Show one, with its keys."""
        name = await self._named(request, "read")
        found = await self._pgq.get_limit(name)
        cursor = request.query_params.get("cursor")
        page = await self._pgq.limit_keys(name, limit=PAGE, cursor=cursor)
        busy = await self._pgq.busy_limit_keys(name) if cursor is None else ()
        here = f"{base_of(request)}/limits/show"
        return self._pages.render(
            request,
            "limit.html",
            section="limits",
            may=await self._pages.offers(request, ("configure", f"limit:{name}")),
            is_top=False,
            events="" if cursor else "/events",
            limit=found,
            counts=_counts(found),
            busy=busy,
            weights=await self._weights(found),
            keys=page.keys,
            most=MOST_OF_KEY,
            when_full=WHEN_FULL.get(found.when_full, found.when_full),
            first=f"{here}?{urlencode({'name': name})}" if cursor else None,
            more=f"{here}?{urlencode({'name': name, 'cursor': page.cursor})}" if page.cursor else None,
            now=await self._pgq.now(),
        )

    async def key(self, request: Request) -> Response:
        """Show one key of a limit, with its jobs."""
        name = await self._named(request, "read")
        key = request.query_params.get("key", "")
        found = await self._pgq.get_limit(name)
        page = await self._pgq.limit_keys(name, key=key, limit=1)
        at_key = await self._pgq.limit_jobs(name, key, limit=PAGE)
        visible = await self._pages.visible_ids(request, (*at_key.holders, *at_key.waiting))
        jobs = await self._pgq.get_many(visible, large_results=False)
        return self._pages.render(
            request,
            "limit_key.html",
            section="limits",
            may=await self._pages.offers(request, ("configure", f"limit:{name}")),
            is_top=False,
            events="/events",
            limit=found,
            key=key,
            weight=(await self._weights(found)).get(key, 1.0) if name.startswith(FAIR) else None,
            use=page.keys[0] if page.keys else None,
            most=MOST_OF_KEY,
            holders=[jobs[each] for each in at_key.holders if each in jobs],
            waiting=[jobs[each] for each in at_key.waiting if each in jobs],
            now=await self._pgq.now(),
        )

    async def change(self, request: Request) -> Response:
        """Change what it lets through."""
        name = await self._named(request, "configure")
        form = await read_form(request, self._pages.settings)
        await self._pgq.set_limit(name, **change_in(form), **self._notes(request, form))
        return self._go(request, name, "limit_changed")

    async def weigh(self, request: Request) -> Response:
        """Change the share of a key of a fair queue."""
        name, key = await self._named(request, "configure"), request.query_params.get("key", "")
        form = await read_form(request, self._pages.settings)
        weight = None if form.get("default") else decimal_in(form, "weight")
        await self._pgq.set_weight(queue_of_window(name), key, weight, actor=self._pages.actor(request))
        query = urlencode({"name": name, "key": key, "done": "weight_changed"})
        return self._pages.go(request, f"/limits/key?{query}")

    async def _weights(self, limit: LimitUse) -> dict[str, float]:
        return await self._pgq.weights(queue_of_window(limit.name)) if limit.name.startswith(FAIR) else {}

    async def reset(self, request: Request) -> Response:
        """Return it to what code declared."""
        name = await self._named(request, "configure")
        form = await read_form(request, self._pages.settings)
        is_declared = (await self._pgq.get_limit(name)).declared_words is not None
        done = await self._pgq.reset_limit(name, **self._notes(request, form))
        if not is_declared:
            return self._pages.go(request, "/limits?done=limit_removed")
        return self._go(request, name, "limit_reset" if done else "nothing")

    async def ordered(self, request: Request) -> Response:
        """Show ordered groups, and their keys that stand still."""
        await self._pages.access.check(request, "read", "limits")
        stopped = await self._pgq.stopped_keys(limit=STOPPED)
        visible = await self._pages.visible_ids(request, [each.job_id for each in stopped])
        return self._pages.render(
            request,
            "ordered.html",
            section="limits",
            may=await self._pages.offers(
                request, *(("resume", f"limit:order/{each.name}") for each in stopped)
            ),
            is_top=False,
            events="/events",
            groups=[(each, _group_counts(each)) for each in await self._pgq.ordered_groups()],
            most=MOST_OF_KEY,
            stopped=stopped,
            visible=visible,
            is_cut=len(stopped) == STOPPED,
            now=await self._pgq.now(),
        )

    async def limiters(self, request: Request) -> Response:
        """Show what handlers hold, or wait for, and which jobs do."""
        await self._pages.access.check(request, "read", "limits")
        found = await self._pgq.limiters(limit=PAGE)
        jobs = [job for each in found for job in (*each.holders, *each.waiters)]
        return self._pages.render(
            request,
            "limiters.html",
            section="limits",
            is_top=False,
            events="/events",
            limiters=found,
            visible=await self._pages.visible_ids(request, jobs),
            words=LIMITERS,
            is_cut=len(found) == PAGE,
        )

    async def resume(self, request: Request) -> Response:
        """Let a key go on past what stops it."""
        name, key = request.query_params.get("name", ""), request.query_params.get("key", "")
        await self._pages.access.check(request, "resume", f"limit:order/{name}")
        form = await read_form(request, self._pages.settings)
        done = await self._pgq.resume_key(name, key, **self._notes(request, form))
        return self._pages.go(request, f"/limits/ordered?done={'key_resumed' if done else 'nothing'}")

    async def _named(self, request: Request, action: Action) -> str:
        """Return the name in the address, if *request* may do *action* to it. Raises HTTPException."""
        name = request.query_params.get("name", "")
        await self._pages.access.check(request, action, f"limit:{name}")
        return name

    def _notes(self, request: Request, form: Mapping[str, str]) -> dict[str, Any]:
        return {"actor": self._pages.actor(request), "reason": reason_in(form)}

    def _go(self, request: Request, name: str, done: str) -> Response:
        return self._pages.go(request, f"/limits/show?{urlencode({'name': name, 'done': done})}")


def _counts(limit: LimitUse) -> dict[str, Count]:
    return {
        "in_use": Count(limit.in_use, limit.is_exact),
        "waiting": Count(limit.waiting, limit.is_exact),
    }


def _group_counts(group: OrderedGroup) -> dict[str, Count]:
    return {
        "waiting": Count(group.waiting, group.is_exact),
        "stopped": Count(group.stopped, group.is_exact),
        "halted": Count(group.halted, group.is_exact),
    }
