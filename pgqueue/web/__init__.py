"""The status app: what a service shows of its jobs and of itself over HTTP."""

from pgqueue.web.app import status_app

__all__ = ["status_app"]
