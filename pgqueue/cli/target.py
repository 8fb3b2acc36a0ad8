"""Finds the PgQueue that `module:name` refers to, and imports the modules that declare its tasks."""

from __future__ import annotations

import importlib
import linecache
import pkgutil
import sys
import sysconfig
import traceback
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Final

import typer

from pgqueue import PgQueue
from pgqueue.cli.output import plain
from pgqueue.cli.settings import project

FOREIGN: Final = tuple(
    {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    | {str(Path(__file__).parents[1])}
)
"""Folders of modules that the user has not written."""


def load(target: str, include: Iterable[str] = ()) -> PgQueue:
    """Import *target*, `module:name`, and the modules and packages of *include*.

    What it names may also be an object with a method `__pgqueue__()`, which returns its PgQueue, as the apps
    of pgqueue.compat have. Without `:name` it is the one that the module has. The current directory is
    searched too, and that of the project. Raises typer.BadParameter if there is no such module or PgQueue,
    and typer.Exit after it has told of an error of a module itself.
    """
    module_name, _, name = target.partition(":")
    if not module_name or (":" in target and not name):
        raise typer.BadParameter(f"the PgQueue must be written as module:name, got {target!r}")
    for folder in (project().folder, Path.cwd()):
        if folder is not None and str(folder) not in sys.path:
            sys.path.insert(0, str(folder))
    module = _import(module_name, repr(target))
    found = _find_named(module, name, target) if name else _find_only(module, target)
    for each in include:
        _include(each, found)
    return found


def _find_named(module: ModuleType, name: str, target: str) -> PgQueue:
    found: object = module
    for attribute in name.split("."):
        found = getattr(found, attribute, None)
    pgq = _pgqueue_of(found)
    if pgq is None:
        raise typer.BadParameter(
            f"{target!r}: {name!r} in {module.__name__!r} must be a PgQueue, got {found!r}"
        )
    return pgq


def _find_only(module: ModuleType, target: str) -> PgQueue:
    """Return the one PgQueue that the values of *module* are, or have. Raises typer.BadParameter."""
    named: dict[int, tuple[str, PgQueue]] = {}
    for name, value in list(vars(module).items()):
        pgq = _pgqueue_of(value)
        if pgq is not None:
            named.setdefault(id(pgq), (name, pgq))
    if len(named) != 1:
        names = ", ".join(f"{target}:{name}" for name, _ in named.values())
        raise typer.BadParameter(
            f"{target!r}: the module has several: pass one of {names}"
            if names
            else f"{target!r}: there is no PgQueue in this module; pass it as module:name"
        )
    return next(iter(named.values()))[1]


def _pgqueue_of(value: object) -> PgQueue | None:
    """Return the PgQueue that *value* is, or has by `__pgqueue__`; None: neither."""
    # Of the class: a class has the method as well, and is no app.
    method = getattr(type(value), "__pgqueue__", None)
    found = value if method is None else method(value)
    return found if isinstance(found, PgQueue) else None


def split_includes(include: Iterable[str] | None) -> list[str]:
    """Return the modules of `--include`, which may be given more than once, and several by commas."""
    return [name.strip() for each in include or () for name in each.split(",") if name.strip()]


def _include(name: str, pgq: PgQueue) -> None:
    """Import the module *name*, or the package with all its submodules; say if that declares no task."""
    before = set(pgq.registry.names)
    module = _import(name, f"--include {name}")
    imported = 0 if getattr(module, "__file__", None) is None else 1
    for each in pkgutil.walk_packages(getattr(module, "__path__", ()), f"{name}."):
        # A program would run.
        if each.name.rpartition(".")[2] != "__main__":
            _import(each.name, f"--include {name}")
            imported += 1
    if not imported:
        raise typer.BadParameter(
            f"--include {name}: there is no Python module in {', '.join(module.__path__)}; name a module "
            "that declares tasks, or a package of such modules"
        )
    within = f"{name}."
    if not any(
        each.name not in before or f"{each.module}.".startswith(within) for each in pgq.registry.definitions
    ):
        typer.echo(
            f"pgqueue: --include {name} declares no task of this PgQueue; name modules that use its `task`",
            err=True,
        )


def _import(name: str, what: str) -> ModuleType:
    if not all(part.isidentifier() for part in name.split(".")):
        raise typer.BadParameter(f"{what}: {name!r} is not the name of a module")
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{name}.".startswith(f"{error.name}."):
            raise typer.BadParameter(f"{what}: no module named {error.name!r}") from error
        # The module was found. A module that it imports was not.
        told: BaseException = error
    except (Exception, SystemExit) as error:
        told = error
    for line in told_of(name, told):
        typer.echo(line, err=True)
    raise typer.Exit(1) from told


def told_of(name: str, error: BaseException) -> list[str]:
    """Return three lines about an error that module *name* raised: with the last frame that is the user's."""
    if isinstance(error, SyntaxError) and error.filename:
        where, line, code = error.filename, error.lineno or 0, (error.text or "").strip()
        function = "the module"
    else:
        frames = [
            each for each in traceback.extract_tb(error.__traceback__) if not each.filename.startswith("<")
        ]
        top = name.partition(".")[0]
        own = [
            each
            for each in frames
            if not each.filename.startswith(FOREIGN) or top in Path(each.filename).with_suffix("").parts
        ]
        last = (own or frames)[-1]
        where, line, function = last.filename, last.lineno or 0, last.name
        code = (last.line or linecache.getline(where, line)).strip()
    message = plain(" ".join(str(error).split()))
    return [
        f"pgqueue: the module {name} cannot be imported; `python -c 'import {name}'` shows the traceback",
        f'  File "{where}", line {line}, in {function}: {code}',
        f"  {type(error).__name__}: {message}" if message else f"  {type(error).__name__}",
    ]
