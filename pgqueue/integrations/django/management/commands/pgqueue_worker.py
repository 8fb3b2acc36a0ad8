"""`manage.py pgqueue_worker`: runs the tasks of a backend."""

from __future__ import annotations

import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from pgqueue.package import pip_install


class Command(BaseCommand):  # type: ignore[misc]  # Django has no types
    """Runs `pgqueue worker` for a backend, with the options of that."""

    help = (
        "Runs the tasks of a backend until it is stopped by a signal. Takes --backend ALIAS, and every "
        "option of `pgqueue worker`: --concurrency, --queues, --processes, --metrics-port ..."
    )

    def run_from_argv(self, argv: list[str]) -> None:
        """Leave the options to pgqueue's own command."""
        try:
            self.check()
            self.handle(*argv[2:])
        except CommandError as error:
            self.stderr.write(f"{type(error).__name__}: {error}")
            sys.exit(error.returncode)

    def handle(self, *args: str, **_: Any) -> None:
        """Run the worker; leave with its exit code."""
        given = list(args)
        alias = "default"
        for place, each in enumerate(given):
            if each == "--backend" and place + 1 < len(given):
                alias = given[place + 1]
                del given[place : place + 2]
                break
            if each.startswith("--backend="):
                alias = each.removeprefix("--backend=")
                del given[place]
                break
        try:
            from pgqueue.cli import app
        except ImportError as error:
            raise CommandError(f"the worker needs {error.name}; run {pip_install('cli')}") from error
        target = f"pgqueue.integrations.django.queues:{alias}"
        app(["worker", target, *given], prog_name="manage.py pgqueue_worker")
