"""The project and the dashboard as one app, as docs/how-to/django.md has it."""

from __future__ import annotations

import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "kit.django_site.settings")
project = get_asgi_application()

from starlette.applications import Starlette  # noqa: E402  # settings first
from starlette.routing import Mount  # noqa: E402

from pgqueue.integrations.django import queue  # noqa: E402
from pgqueue.integrations.django.dashboard import has_permission, user_name  # noqa: E402
from pgqueue.integrations.starlette import lifespan  # noqa: E402
from pgqueue.web import status_app  # noqa: E402

application = Starlette(
    lifespan=lifespan(queue()),
    routes=[
        Mount("/queue", status_app(queue(), authorize=has_permission, actor=user_name)),
        Mount("/", project),
    ],
)
