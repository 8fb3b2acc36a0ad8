"""One job: submitting, polling, cancel."""

from __future__ import annotations

from starlette.routing import Route

from pgqueue.app import PgQueue
from pgqueue.web.api import cancel, poll, send_event, submit
from pgqueue.web.http.retry_after import Outlooks
from pgqueue.web.live.long_poll import LongPolls
from pgqueue.web.security.access import Access
from pgqueue.web.settings import WebSettings


def routes(pgq: PgQueue, settings: WebSettings, access: Access, long_polls: LongPolls) -> list[Route]:
    """Return the routes about one job."""
    outlooks = Outlooks(pgq)
    return [
        *submit.routes(pgq, settings, access, outlooks),
        *poll.routes(pgq, settings, access, outlooks, long_polls),
        *cancel.routes(pgq, settings, access, outlooks),
        *send_event.routes(pgq, settings, access),
    ]
