"""Who may use the status app in a Django project: whoever is logged in there, and has the permission.

    status_app(queue(), authorize=has_permission, actor=user_name)

`pgqueue.view_dashboard` lets a user read, `pgqueue.change_dashboard` change things: cancel, redrive, pause.
Superusers have both. The users log in as they do for the admin; the status app reads their session.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib.auth import get_user
from django.db import close_old_connections
from django.http import HttpRequest
from starlette.requests import Request


async def has_permission(request: Request, action: str, resource: str) -> bool:  # noqa: ARG001
    """Return whether the user of Django's that a request is from may do an action. See `authorize`."""
    cookie = request.cookies.get(settings.SESSION_COOKIE_NAME)
    if not cookie:
        return False
    needed = "pgqueue.view_dashboard" if action == "read" else "pgqueue.change_dashboard"
    name = await sync_to_async(_user_with)(cookie, needed)
    request.state.django_user = name
    return name is not None


def user_name(request: Request) -> str:
    """Return the name of the user that a request is from, for the history of jobs. See `actor`."""
    return getattr(request.state, "django_user", None) or "unknown"


def _user_with(session: str, permission: str) -> str | None:
    close_old_connections()
    try:
        request: Any = HttpRequest()
        request.session = import_module(settings.SESSION_ENGINE).SessionStore(session)
        user: Any = get_user(request)
        return str(user.get_username()) if user.is_active and user.has_perm(permission) else None
    finally:
        close_old_connections()
