"""Functions that no task declares: enqueued by their path, and imported by the worker that runs their job.

Only from modules that a PgQueue allows: whoever may enqueue could otherwise call any function there is.
"""

from __future__ import annotations

import logging
import pkgutil
from collections.abc import Callable
from typing import Any

from pgqueue.errors import ConfigurationError, UnknownTaskError
from pgqueue.model.checks import shown
from pgqueue.tasks.definition import TaskDefinition

logger = logging.getLogger("pgqueue.tasks")


class Importable:
    """The modules whose functions may be run. *declare* makes a task of a function, by the name given."""

    def __init__(self, declare: Callable[[str, Callable[..., Any]], TaskDefinition]) -> None:
        self._declare = declare
        self._modules: set[str] = set()

    def allow(self, modules: tuple[str, ...]) -> None:
        """Allow the functions of *modules*, and of those below them. Raises ConfigurationError."""
        for module in modules:
            if not isinstance(module, str) or not all(part.isidentifier() for part in module.split(".")):
                raise ConfigurationError(
                    f"allow_importing: a module must be named as in 'shop.jobs', got {shown(module)}"
                )
        self._modules.update(modules)

    def find(self, path: str) -> TaskDefinition | None:
        """Return the task that *path* names, or None if it may not be imported, or cannot."""
        if not self._allows(path):
            return None
        try:
            found = pkgutil.resolve_name(path)
            definition = getattr(found, "definition", None)
            if isinstance(definition, TaskDefinition):
                return definition
            if not callable(found) or isinstance(found, type) or not self._allows(path_of(found)):
                # A module also has what it has imported itself.
                logger.warning("%s is not a function of a module that may be imported", path)
                return None
            return self._declare(path, found)
        except Exception as error:
            # The module is the user's, and may raise anything.
            logger.warning("%s cannot be imported (%s: %s)", path, type(error).__name__, error)
            return None

    def _allows(self, path: str) -> bool:
        return any(path.startswith(f"{module}.") for module in self._modules)


def path_of(function: Callable[..., Any]) -> str:
    """Return the path by which a worker imports *function*. Raises UnknownTaskError if there is none."""
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(name, str):
        raise UnknownTaskError(f"{shown(function)} has no path by which a worker could import it")
    if module == "__main__" or "<" in name:
        raise UnknownTaskError(
            f"a worker cannot import {name!r} of {module!r}: move the function to the top level of a module, "
            "or declare it as a task"
        )
    return f"{module}.{name}"
