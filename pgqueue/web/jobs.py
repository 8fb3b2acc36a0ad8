"""One job: submitted, polled, cancelled."""

from __future__ import annotations

from starlette.routing import Route

from pgqueue.app import PgQueue
from pgqueue.web import cancelling, polling, submitting
from pgqueue.web.access import Access
from pgqueue.web.ending import Ending
from pgqueue.web.pace import Outlooks
from pgqueue.web.settings import WebSettings


def routes(pgq: PgQueue, settings: WebSettings, access: Access, ending: Ending) -> list[Route]:
    """Return the routes about one job."""
    outlooks = Outlooks(pgq)
    return [
        *submitting.routes(pgq, settings, access, outlooks),
        *polling.routes(pgq, settings, access, outlooks, ending),
        *cancelling.routes(pgq, settings, access, outlooks),
    ]
