"""How a child process finds a task of its worker: by the module that its handler is in."""

from __future__ import annotations

import importlib
import os
import runpy
import sys
from types import ModuleType
from typing import Any

from pgqueue.errors import InvalidTaskError
from pgqueue.tasks.definition import TaskDefinition
from pgqueue.tasks.registry import Registry

MAIN = "__main__"


def host_of(module: ModuleType, task: str) -> Any | None:
    """Return the PgQueue at the top level of *module* that has *task*, or that a Task there belongs to."""
    for value in list(vars(module).values()):
        registry = getattr(value, "registry", None)
        if isinstance(registry, Registry) and registry.get(task) is not None:
            return value
        definition = getattr(value, "definition", None)
        if isinstance(definition, TaskDefinition) and definition.name == task:
            return getattr(value, "host", None)
    return None


def find_host(found_in: str, task: str, main: dict[str, str] | None) -> Any | None:
    """Return the PgQueue that has *task*, in a child process: by `TaskDefinition.found_in`."""
    module, _, name = found_in.partition(":")
    loaded = load(module, main)
    if not name:
        return host_of(loaded, task)
    host = getattr(loaded, name)
    return None if host.registry.get(task) is None else host


def check_importable(definition: TaskDefinition, registry: Registry) -> None:
    """Raise InvalidTaskError if a child process would not find *definition*, of *registry*."""
    if definition.found_in != definition.module:
        # Its PgQueue has said where.
        return
    module = sys.modules.get(definition.module)
    host = None if module is None else host_of(module, definition.name)
    if module is None or host is None or host.registry is not registry:
        raise InvalidTaskError(
            f"task {definition.name!r}: a child process would import {definition.module!r} and "
            "not find the task; assign it, or its PgQueue, to a variable at the top level of that module"
        )
    if module.__name__ == MAIN and source_of_main() is None:
        raise InvalidTaskError(
            f"task {definition.name!r}: isolation='process' needs a module that can be imported, and this "
            "program has no file"
        )


def source_of_main() -> dict[str, str] | None:
    """Return where the program of this process comes from; None: from nowhere that a child could read."""
    main = sys.modules[MAIN]
    if main.__spec__ is not None:
        return {"module": main.__spec__.name}
    file = getattr(main, "__file__", None)
    return None if file is None else {"file": file}


def django_settings() -> str | None:
    """Return the settings module of Django's apps, if this process has loaded them."""
    registry = sys.modules.get("django.apps")
    is_loaded = registry is not None and registry.apps.ready
    return os.environ.get("DJANGO_SETTINGS_MODULE") if is_loaded else None


def set_up_django(settings: str | None) -> None:
    """Load Django's apps, as the worker has: modules of tasks import models. None: it has not."""
    if settings is not None:
        os.environ["DJANGO_SETTINGS_MODULE"] = settings
        importlib.import_module("django").setup()


def load(module: str, main: dict[str, str] | None) -> ModuleType:
    """Import *module*; if it is the worker's program, from *main*, and not as a program."""
    if module != MAIN:
        return importlib.import_module(module)
    assert main is not None
    if "module" in main:
        return importlib.import_module(main["module"])
    loaded = sys.modules.get("__pgqueue_main__")
    if loaded is None:
        loaded = ModuleType("__pgqueue_main__")
        loaded.__dict__.update(runpy.run_path(main["file"], run_name="__pgqueue_main__"))
        sys.modules["__pgqueue_main__"] = loaded
    return loaded
