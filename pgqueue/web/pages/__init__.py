"""The dashboard: pages rendered by the server, complete without JavaScript."""

from pgqueue.web.pages.app import routes

__all__ = ["routes"]
