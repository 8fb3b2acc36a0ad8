"""One job: submitting, polling, cancel."""

from __future__ import annotations

from starlette.routing import Route

from pgqueue.app import PgQueue
from pgqueue.web.api import cancel, poll, submit
from pgqueue.web.http.retry_after import Outlooks
from pgqueue.web.live.server_stop import ServerStop
from pgqueue.web.security.access import Access
from pgqueue.web.settings import WebSettings


def routes(pgq: PgQueue, settings: WebSettings, access: Access, server_stop: ServerStop) -> list[Route]:
    """Return the routes about one job."""
    outlooks = Outlooks(pgq)
    return [
        *submit.routes(pgq, settings, access, outlooks),
        *poll.routes(pgq, settings, access, outlooks, server_stop),
        *cancel.routes(pgq, settings, access, outlooks),
    ]
