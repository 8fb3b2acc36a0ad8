"""Finds the PgQueue that `module:name` refers to."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import typer

from pgqueue import PgQueue


def load(target: str) -> PgQueue:
    """Import *target*, `module:name`. The current directory is searched too.

    Raises typer.BadParameter if there is no such module or PgQueue. Errors of the module itself pass through.
    """
    module_name, _, name = target.partition(":")
    if not module_name or not name:
        raise typer.BadParameter(f"the PgQueue must be written as module:name, got {target!r}")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        found: object = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            # The module was found. A module that it imports was not.
            raise
        raise typer.BadParameter(f"{target!r}: no module named {error.name!r}") from error
    for attribute in name.split("."):
        found = getattr(found, attribute, None)
    if not isinstance(found, PgQueue):
        raise typer.BadParameter(f"{target!r}: {name!r} in {module_name!r} must be a PgQueue, got {found!r}")
    return found
