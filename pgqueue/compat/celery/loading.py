"""What an app has at its workers: the modules that have tasks, and the schedules."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Iterable
from typing import Any

from pgqueue.compat.celery import canvas
from pgqueue.compat.celery.compiling import compile_call
from pgqueue.compat.celery.exceptions import NotRegistered
from pgqueue.compat.celery.schedules import check_entry, timing_of
from pgqueue.compat.celery.sending import zone_of

Packages = Iterable[str] | Callable[[], Iterable[str]] | None


def import_modules(names: Iterable[str]) -> None:
    """Import modules that have tasks."""
    for name in names:
        importlib.import_module(name)


def discover(packages: Packages, related: str | None) -> None:
    """Import the module *related* of each package that has one; without packages, of Django's apps."""
    if packages is None:
        names: Iterable[str] = _django_apps()
    else:
        names = packages() if callable(packages) else packages
    for package in [names] if isinstance(names, str) else names:
        name = f"{package}.{related}" if related else package
        if importlib.util.find_spec(name) is not None:
            importlib.import_module(name)


def _django_apps() -> list[str]:
    if "DJANGO_SETTINGS_MODULE" not in os.environ and "django" not in sys.modules:
        return []
    importlib.import_module("django").setup()
    apps = importlib.import_module("django.apps").apps
    return [config.name for config in apps.get_app_configs()]


def schedule(app: Any, name: str, when: Any, call: canvas.Signature) -> None:
    """Declare a schedule of *call*. Raises NotRegistered, ConfigurationError, NotImplementedError."""
    task = app.tasks.get(call.task)
    if task is None:
        raise NotRegistered(
            f"schedule {name!r}: no task is called {call.task!r}; add its module to include=[...]"
        )
    made = compile_call(app, call, call.options, sends=False)
    declared = app.declared(task).options(**dict(made.options))
    timing = timing_of(when)
    declare = app.served.schedule(
        timing.get("cron"),
        every=timing.get("every"),
        name=name,
        timezone=str(zone_of(app)),
        args=made.args,
        kwargs=made.kwargs,
    )
    declare(declared)


def entry_of(app: Any, entry: Any) -> tuple[Any, canvas.Signature]:
    """Return when an entry of `beat_schedule` is sent, and the call."""
    check_entry(str(entry), entry)
    call = canvas.Signature(
        entry["task"], entry.get("args"), entry.get("kwargs"), entry.get("options"), app=app
    )
    return entry["schedule"], call
