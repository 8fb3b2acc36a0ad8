"""What every page is made with: the data, the access rules and the templates."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse

from pgqueue.app import PgQueue
from pgqueue.errors import ConfigurationError
from pgqueue.model.jobs import Job
from pgqueue.package import pip_install
from pgqueue.web.http.problems import NO_STORE
from pgqueue.web.named_in_path import find_job, visible_ids
from pgqueue.web.pages.format import FILTERS
from pgqueue.web.security.access import Access, Ask
from pgqueue.web.settings import Action, WebSettings

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATES: Final = Path(__file__).parent / "templates"
SECTIONS: Final = (
    ("overview", "Overview", "/", "o"),
    ("jobs", "Jobs", "/jobs", "j"),
    ("workflows", "Workflows", "/workflows", "w"),
    ("schedules", "Schedules", "/schedules", "s"),
    ("limits", "Limits", "/limits", "l"),
    ("dead-letters", "Dead letters", "/dead-letters", "d"),
    ("queues", "Queues", "/queues", "q"),
    ("workers", "Workers", "/workers", "k"),
)
"""The navigation: name, label, path, and the key that goes there after a `g`."""
BARE: Final = ("login.html", "error.html")
"""Pages that show nothing of the instance."""
DONE: Final = {
    "cancelled": "Cancelled. If it is running, its handler has been asked to stop.",
    "over": "The job had already ended; nothing was changed.",
    "reprioritised": "Priority changed.",
    "enqueued": "Enqueued. This is its page.",
    "edited": "Changed. The history says what.",
    "running_now": "It is pending now.",
    "requeued": "Requeued. The job is pending again.",
    "redriven": "Redriven. The job is pending again.",
    "discarded": "Discarded.",
    "nothing": "Nothing to do; nothing was changed.",
    "paused": "Paused. Jobs can still be enqueued, and running jobs finish.",
    "resumed": "Resumed.",
    "removed": "Removed. The queue comes back with the next job that is enqueued to it.",
    "workflow_cancelled": "Cancelled. Running jobs have been asked to stop; the others will not start.",
    "workflow_retried": "Redriven. The failed jobs are pending again.",
    "workflow_paused": "Paused. Running and pending jobs go on; what waits for them does not become ready.",
    "schedule_made": "Made. It ticks from now on.",
    "schedule_changed": "Changed. From now on deploys do not change it.",
    "schedule_paused": "Paused. It does not tick until it is resumed; its jobs go on.",
    "schedule_resumed": "Resumed. It goes on at its next tick.",
    "schedule_ran": "It has ticked: its job is the first of the history.",
    "schedule_skipped": "No job was made: the one before has not ended, and its overlap forbids a second.",
    "schedule_deleted": "Deleted, with its history. Its jobs stay. What code declares comes back.",
    "limit_changed": "Changed. It stays so, whatever code declares.",
    "weight_changed": "The weight was changed.",
    "limit_reset": "Reset. It is as code declared it first.",
    "limit_removed": "Removed: no code has declared it.",
    "key_resumed": "Resumed. The key goes on past the jobs that stopped it; these stay as they are.",
    "bulk_stopped": "Stopped. Jobs that were changed by then stay so.",
    "stopped": "Stopped. Jobs that are already pending again stay pending.",
}
"""What a page says after an action, by the word in its address. No other text can get there."""


@dataclass(frozen=True, slots=True)
class Offers:
    """What a page offers the requester to do, as templates ask: `may("cancel", "jobs")`."""

    asks: Collection[Ask] = ()

    def __call__(self, action: Action, resource: str) -> bool:
        """Whether it offers this."""
        return (action, resource) in self.asks


NOTHING: Final = Offers()


class Pages:
    """What the dashboard's pages share: where they get what they show, and how they are rendered."""

    def __init__(self, pgq: PgQueue, settings: WebSettings, access: Access) -> None:
        self.pgq = pgq
        self.settings = settings
        self.access = access
        self._templates = _templates()

    def render(
        self,
        request: Request,
        template: str,
        *,
        section: str,
        status: int = 200,
        is_top: bool = True,
        events: str = "",
        **values: Any,
    ) -> HTMLResponse:
        """Return a page.

        *section*: the part of the navigation. *is_top*: whether it is the page that the navigation links to.
        It is to offer nothing that changes anything but what `offers` returned: the template's `may`.
        *events*: the path, in the API, of the event stream that triggers a refresh; empty: there is none.
        """
        base, may_change = base_of(request), self.access.may_change(request)
        page = self._templates.get_template(template).render(
            base=base,
            instance=self.settings.name,
            version=_version(),
            is_logged_in=self.access.is_logged_in(request),
            is_read_only=not may_change and template not in BARE,
            may_log_in=self.settings.token is not None and not self.settings.read_only,
            sections=SECTIONS,
            section=section,
            is_top=is_top,
            events=f"{base.removesuffix('/dashboard')}{events}" if events else "",
            done=DONE.get(request.query_params.get("done", "")),
            **values,
        )
        # A job can have lone surrogates in its arguments, which UTF-8 cannot encode.
        return HTMLResponse(page.encode("utf-8", "replace"), status, headers=NO_STORE)

    def go(self, request: Request, path: str) -> RedirectResponse:
        """Return the response to a form: a redirect to *path* of the dashboard."""
        return RedirectResponse(base_of(request) + path, 303, headers=NO_STORE)

    async def job(self, request: Request, action: Action) -> Job:
        """Return the job that *request* is to do *action* to. Raises as `find_job`."""
        return await find_job(request, self.pgq, self.access, action)

    async def visible_ids(self, request: Request, job_ids: Iterable[UUID]) -> Collection[UUID]:
        """Return those of *job_ids* whose jobs the requester may see."""
        return await visible_ids(request, self.pgq, self.access, job_ids)

    async def offers(self, request: Request, *asks: Ask) -> Offers:
        """Return which of *asks* the page is to offer; pages pass it to `render` as *may*."""
        return Offers(await self.access.offers(request, asks))

    def hides(self, job: Job) -> bool:
        """Whether some of the arguments of *job* are redacted."""
        return bool(self.pgq.shown_arguments(job) != job.arguments)

    def actor(self, request: Request) -> str:
        """Return the actor to record in the history."""
        return self.access.actor_of(request, default="dashboard")


def base_of(request: Request) -> str:
    """Return the path of the dashboard, wherever the app is mounted."""
    return str(request.scope["root_path"])


def _templates() -> Environment:
    try:
        import_module("jinja2")
    except ImportError as error:
        raise ConfigurationError(
            f"the dashboard needs jinja2, which is not installed; run {pip_install('web')}"
        ) from error
    return _compiled_templates()


@cache
def _compiled_templates() -> Environment:
    """Return the templates, compiled once per process: it takes longer than the first page may."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        # The files do not change: they come with the package.
        auto_reload=False,
    )
    environment.filters.update(FILTERS)
    for name in environment.list_templates():
        environment.get_template(name)
    return environment


def _version() -> str:
    # Here, because `pgqueue` imports the modules that this one imports.
    from pgqueue import __version__

    return __version__
