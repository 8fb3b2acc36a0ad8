"""One job: submitted, polled, cancelled."""

from __future__ import annotations

from starlette.routing import Route

from pgqueue.app import PgQueue
from pgqueue.web.api import cancel as cancelling
from pgqueue.web.api import poll as polling
from pgqueue.web.api import submit as submitting
from pgqueue.web.http.retry_after import Outlooks
from pgqueue.web.live.server_stop import Ending
from pgqueue.web.security.access import Access
from pgqueue.web.settings import WebSettings


def routes(pgq: PgQueue, settings: WebSettings, access: Access, ending: Ending) -> list[Route]:
    """Return the routes about one job."""
    outlooks = Outlooks(pgq)
    return [
        *submitting.routes(pgq, settings, access, outlooks),
        *polling.routes(pgq, settings, access, outlooks, ending),
        *cancelling.routes(pgq, settings, access, outlooks),
    ]
