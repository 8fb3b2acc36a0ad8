"""ShutdownNotifications: where Dramatiq has it."""

from pgqueue.compat.dramatiq.middleware import ShutdownNotifications

__all__ = ["ShutdownNotifications"]
