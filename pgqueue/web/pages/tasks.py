"""The page of one task: how its jobs do, what fails, and with which options it runs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pgqueue.app import PgQueue
from pgqueue.errors import InvalidFilterError, InvalidOptionError
from pgqueue.model.dead_letters import DeadLetterGroup
from pgqueue.model.measures import TaskMeasure
from pgqueue.model.schedules import Schedule
from pgqueue.model.setting import Setting
from pgqueue.options.levels import DEFAULTS, NO_OPTIONS
from pgqueue.tasks.definition import TaskDefinition
from pgqueue.web.named_in_path import settings_of
from pgqueue.web.pages import charts
from pgqueue.web.pages.page import Pages
from pgqueue.web.pages.queues import durations_of
from pgqueue.web.pages.scales import scale

SPANS: Final[Mapping[str, tuple[str, float]]] = {
    "hour": ("hour", 3600.0),
    "day": ("24 hours", 86_400.0),
    "week": ("7 days", 7 * 86_400.0),
    "month": ("30 days", 30 * 86_400.0),
}
"""The ranges of time that can be chosen, and their seconds."""
GROUPS: Final = 10
SCHEDULES: Final = 1000
"""Schedules that are searched for the task's, by name."""
POINTS: Final = 48
WIDE: Final = (600.0, 120.0)
CAP: Final = 10_000


@dataclass(frozen=True, slots=True)
class Outcomes:
    """What became of the jobs of a task, as bars side by side in time."""

    succeeded: Sequence[charts.Bar]
    retried: Sequence[charts.Bar]
    failed: Sequence[charts.Bar]
    columns: Sequence[charts.Bar]
    top: float
    """Jobs of a period at the upper edge."""
    clipped: Sequence[charts.Clipped]


def outcomes(measure: TaskMeasure) -> Outcomes:
    """Return the picture."""
    width, height = WIDE
    succeeded = [float(each.counts.succeeded) for each in measure.periods]
    retried = [float(each.counts.retried) for each in measure.periods]
    failed = [float(each.counts.failed) for each in measure.periods]
    below = [a + b for a, b in zip(succeeded, retried, strict=True)]
    highest = [a + b for a, b in zip(below, failed, strict=True)]
    fitting = scale(highest)
    top = fitting.top
    return Outcomes(
        succeeded=charts.bars(succeeded, width=width, height=height, top=top),
        retried=charts.bars(retried, width=width, height=height, top=top, below=succeeded),
        failed=charts.bars(failed, width=width, height=height, top=top, below=below),
        columns=charts.bars([top] * len(highest), width=width, height=height, top=top, gap=0),
        top=top,
        clipped=charts.clipped(fitting, highest, [each.at for each in measure.periods], width=width),
    )


@dataclass(frozen=True, slots=True)
class ShownOption:
    """An option that a task does not leave at its default."""

    name: str
    value: str
    level: str
    """Where it was set, for people."""


def shown_options(
    pgq: PgQueue, name: str, task: TaskDefinition | None, setting: Setting | None
) -> list[ShownOption]:
    """Return what is not at its default, by name."""
    at_run_time = {} if setting is None else dict(setting.options)
    declared = {} if task is None else dict(task.options)
    try:
        merged = dict(pgq.registry.resolve(name, task, NO_OPTIONS))
    except InvalidOptionError:
        merged = declared
    merged |= at_run_time
    return [
        ShownOption(
            each,
            shown_value(value),
            "at run time"
            if each in at_run_time
            else "by the task"
            if each in declared
            else "by its queue or app",
        )
        for each, value in sorted(merged.items())
        if each in at_run_time or each in declared or value != DEFAULTS.get(each)
    ]


def shown_value(value: Any) -> str:
    """Return the value of an option for people: code by its name."""
    if value is None:
        return "none"
    if callable(value):
        return getattr(value, "__qualname__", None) or type(value).__name__
    try:
        return json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError):
        return type(value).__name__


def routes(pages: Pages) -> list[Route]:
    """Return the page's route. A task's name can be any text, so it is in the query."""
    own = TaskPage(pages)
    return [Route("/tasks/show", own.show)]


class TaskPage:
    """The page of one task."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages

    async def show(self, request: Request) -> Response:
        """Show it, for a span of time."""
        pages, pgq = self._pages, self._pages.pgq
        name = request.query_params.get("name", "")
        await pages.access.check(request, "read", f"task:{name}")
        span = request.query_params.get("span", "day")
        if not name or span not in SPANS:
            raise HTTPException(422, f"name a task, and one of these spans: {', '.join(SPANS)}")
        try:
            measure = await pgq.measure_task(name, span=SPANS[span][1], points=POINTS)
        except InvalidFilterError as error:
            raise HTTPException(422, str(error)) from error
        setting = (await settings_of(pgq, "task")).get(name)
        task = pgq.registry.get(name)
        workers = await pgq.list_workers(jobs=0)
        return pages.render(
            request,
            "task.html",
            may=await pages.offers(
                request,
                ("enqueue", "jobs"),
                *((action, f"task:{name}") for action in ("enqueue", "pause", "resume")),
            ),
            section="queues",
            is_top=False,
            events="/events",
            name=name,
            span=span,
            spans=SPANS,
            measure=measure,
            drawn=outcomes(measure),
            runs=durations_of("run", "Run time of the attempts that succeeded", measure.runs, WIDE),
            wide_size=WIDE,
            task=task,
            queue=None if task is None else pgq.registry.queue_of(task),
            setting=setting,
            options=shown_options(pgq, name, task, setting),
            limits=limits_of(task),
            declaring=[each for each in workers if each.is_alive and name in (each.tasks or ())],
            groups=await self._failures(request, name),
            schedules=await self._schedules(request, name),
            cap=CAP,
            now=await pgq.now(),
        )

    async def _failures(self, request: Request, name: str) -> Sequence[DeadLetterGroup] | None:
        """Return the latest groups of dead letters that the requester may see; None: none of them."""
        if not await self._may_read(request, "dead_letters"):
            return None
        groups = await self._pages.pgq.dead_groups(task=name, limit=GROUPS, cap=CAP)
        visible = await self._pages.visible_ids(request, (each.latest.job_id for each in groups))
        return [each for each in groups if each.latest.job_id in visible]

    async def _schedules(self, request: Request, name: str) -> Sequence[Schedule] | None:
        """Return the schedules of the task; None: the requester may not see any."""
        if not await self._may_read(request, "schedules"):
            return None
        return [each for each in await self._pages.pgq.schedules.list(limit=SCHEDULES) if each.task == name]

    async def _may_read(self, request: Request, collection: str) -> bool:
        try:
            await self._pages.access.check_collection(request, "read", collection)
        except HTTPException:
            return False
        return True


def limits_of(task: TaskDefinition | None) -> list[str]:
    """Return the names of the limits that the jobs of *task* pass."""
    if task is None:
        return []
    ordered: Iterable[str] = () if task.ordered is None else (task.ordered.limit.name,)
    return [*(each.limit.name for each in task.limits), *ordered]
