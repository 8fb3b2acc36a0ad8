"""`manage.py pgqueue_migrate`: brings the schema of a backend up to date, and nothing else."""

from __future__ import annotations

import asyncio
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from pgqueue.errors import PgQueueError
from pgqueue.integrations.django.running import queue


class Command(BaseCommand):  # type: ignore[misc]  # Django has no types
    """Migrates pgqueue's schema: `manage.py migrate` does it too, unless the option `migrate` is False."""

    help = "Brings pgqueue's schema up to date in the database of a backend."
    requires_migrations_checks = False

    def add_arguments(self, parser: Any) -> None:
        """Take the alias of a backend, and whether to print only."""
        parser.add_argument("--backend", default="default", help="Alias of a backend in TASKS.")
        parser.add_argument("--dry-run", action="store_true", help="Print the SQL without changing anything.")

    def handle(self, *_: Any, backend: str, dry_run: bool, **__: Any) -> None:
        """Migrate."""
        try:
            pgq = queue(backend)
            if dry_run:
                self.stdout.write(asyncio.run(pgq.pending_migrations()), ending="")
                return
            applied = asyncio.run(pgq.migrate())
        except PgQueueError as error:
            raise CommandError(str(error)) from error
        for each in applied:
            self.stdout.write(f"applied {each.version:04} {each.name}")
        if not applied:
            self.stdout.write(f"schema {pgq.schema!r} is up to date")
