"""The status app: an API to submit, poll and operate jobs over HTTP, and pages for people.

It neither opens nor closes the PgQueue that it shows. Every request passes the guard, and every route but
those of health asks access first. API and pages call the same methods of PgQueue, so what is refused here is
refused there.
"""

from pgqueue.web.app import end_streams, status_app

__all__ = ["end_streams", "status_app"]
