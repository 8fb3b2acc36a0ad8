"""Messages that are composed: `pipeline` and `group`."""

from pgqueue.compat.dramatiq.message import group, pipeline

__all__ = ["group", "pipeline"]
