"""Replaces the worker process whenever a file of the project changes, for development."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import anyio

from pgqueue.errors import ConfigurationError
from pgqueue.package import pip_install
from pgqueue.processes.supervisor import Supervisor

logger = logging.getLogger("pgqueue.cli")


async def run_reloading(command: Sequence[str], folder: Path) -> bool:
    """Run a process of *command* until a signal; a new one after each change in *folder*.

    After an error it waits for a change. Return whether the last one stopped without an error.
    """
    supervisor = Supervisor(command, 1, until_changed=True)
    async with anyio.create_task_group() as group:
        group.start_soon(_watch, folder, supervisor)
        has_stopped = await supervisor.run()
        group.cancel_scope.cancel()
    return has_stopped


def check_watching() -> None:
    """Raise ConfigurationError if the package that watches files is missing."""
    try:
        import watchfiles  # noqa: F401
    except ImportError as error:
        raise ConfigurationError(f"--reload needs {error.name}; run {pip_install('reload')}") from error


async def _watch(folder: Path, supervisor: Supervisor) -> None:
    from watchfiles import PythonFilter, awatch

    logger.info("watching %s for changes", folder)
    async for changes in awatch(folder, watch_filter=PythonFilter(extra_extensions=(".toml",)), debounce=200):
        names = sorted({Path(path).name for _, path in changes})
        logger.warning("%s changed; reloading", ", ".join(names[:3]) + (" and others" if names[3:] else ""))
        await supervisor.replace()
