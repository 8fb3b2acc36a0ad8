"""Middleware, SkipMessage: where Dramatiq has them."""

from pgqueue.compat.dramatiq.middleware import Middleware, SkipMessage

__all__ = ["Middleware", "SkipMessage"]
