"""The status app: what a service shows of its jobs and of itself over HTTP."""

from pgqueue.web.app import end_streams, status_app

__all__ = ["end_streams", "status_app"]
