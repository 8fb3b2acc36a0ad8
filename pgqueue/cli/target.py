"""Finds the PgQueue that `module:name` means."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import typer

from pgqueue import PgQueue


def load(target: str) -> PgQueue:
    """Import *target*, `module:name`, also from the current directory.

    Raises typer.BadParameter if it is not there. What the module itself raises passes through.
    """
    module_name, _, name = target.partition(":")
    if not module_name or not name:
        raise typer.BadParameter(f"{target!r}: write it as module:name, for example app.jobs:pgq")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        found: object = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            # The module is there, and something that it imports is not.
            raise
        raise typer.BadParameter(f"{target!r}: there is no module {error.name!r} here") from error
    for attribute in name.split("."):
        found = getattr(found, attribute, None)
    if not isinstance(found, PgQueue):
        raise typer.BadParameter(f"{target!r}: {name!r} in {module_name!r} is not a PgQueue but {found!r}")
    return found
