"""The Django app: commands, the schema with `manage.py migrate`, and a link in the admin."""

from __future__ import annotations

from typing import Any

from asgiref.sync import async_to_sync
from django.apps import AppConfig
from django.db.models.signals import post_migrate

from pgqueue.integrations.django.framework import task_backends


class PgQueueConfig(AppConfig):  # type: ignore[misc]  # Django has no types
    """pgqueue, as an app."""

    name = "pgqueue.integrations.django"
    label = "pgqueue"
    verbose_name = "Jobs"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Bring the schema up to date whenever Django migrates its database, also that of tests."""
        post_migrate.connect(_migrate, sender=self, dispatch_uid="pgqueue")


def _migrate(*, using: str, verbosity: int = 1, plan: Any = None, **_: Any) -> None:  # noqa: ARG001
    from pgqueue.integrations.django.backend import PgQueueBackend
    from pgqueue.integrations.django.running import queue

    for backend in task_backends().all():
        if (
            isinstance(backend, PgQueueBackend)
            and backend.settings.database == using
            and backend.settings.migrate
        ):
            applied = async_to_sync(queue(backend.alias).migrate)()
            if applied and verbosity >= 1:
                print(f"  Applied {len(applied)} migrations of pgqueue to schema {backend.settings.schema!r}")  # noqa: T201
