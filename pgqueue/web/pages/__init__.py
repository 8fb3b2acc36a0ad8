"""The pages that people read: rendered by the server, and complete without JavaScript."""

from pgqueue.web.pages.app import routes

__all__ = ["routes"]
