"""The PgQueues of a Django project, for pgqueue's command line: one by the alias of each backend.

    DJANGO_SETTINGS_MODULE=project.settings pgqueue worker pgqueue.integrations.django.queues:default

Importing it sets Django up, and imports the modules that have tasks.
"""

from __future__ import annotations

import django
from django.apps import apps
from django.core.exceptions import ImproperlyConfigured

from pgqueue import PgQueue
from pgqueue.errors import ConfigurationError
from pgqueue.integrations.django.running import discover, queue

if not apps.ready:
    django.setup()


def __getattr__(alias: str) -> PgQueue:
    if alias.startswith("__"):
        raise AttributeError(alias)
    try:
        found = queue(alias)
    except ImproperlyConfigured as error:
        raise ConfigurationError(str(error)) from error
    discover(alias)
    return found
