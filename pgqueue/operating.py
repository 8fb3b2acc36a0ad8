"""What operators do to a running system: pause and resume, configure. Durable, and heeded by every worker."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pgqueue.database import Database
from pgqueue.errors import ConfigurationError
from pgqueue.options import AttemptOptions, TaskOptions, read_options
from pgqueue.registry import Registry
from pgqueue.settings import Kind, Setting
from pgqueue.signals import Signals
from pgqueue.store import Store


class Operating:
    """An operator's hand on the system, from one process."""

    def __init__(self, database: Database, store: Store, signals: Signals, registry: Registry) -> None:
        self._database = database
        self._store = store
        self._signals = signals
        self._registry = registry

    async def set_paused(
        self,
        *,
        queue: str | None,
        task: str | None,
        paused: bool,
        actor: str | None,
        reason: str | None,
    ) -> bool:
        """Pause or resume a queue or a task; False: it was so already."""
        kind, name = _which("pause" if paused else "resume", queue, task)
        async with self._database.acquire() as connection:
            changed = await self._store.set_paused(
                connection, kind, name, paused=paused, actor=actor, reason=reason
            )
        if paused:
            # Each its own transaction: a claim that has read the lanes before is waited for, and what it
            # has prefetched is seen. Also where it was paused already: the pause may have been cut short.
            async with self._database.acquire() as connection:
                await self._store.await_claims(connection)
            async with self._database.acquire() as connection:
                await self._store.return_paused(connection)
        self._signals.publish("settings")
        return changed

    async def configure(
        self, task: str, given: Mapping[str, Any], *, actor: str | None, reason: str | None
    ) -> None:
        """Let the attempts of *task* run with the options *given*. Raises InvalidOptionError."""
        where = f"task {task!r} at run time"
        options = read_options(where, given, AttemptOptions)
        _check_name("configure_task", task)
        self._registry.check(task, self._registry.get(task), options)
        async with self._database.acquire() as connection:
            await self._store.configure(connection, task, options.stored(), actor=actor, reason=reason)
        self._signals.publish("settings")

    async def settings(self) -> list[Setting]:
        """Return what is paused or configured."""
        async with self._database.acquire() as connection:
            return await self._store.list_settings(connection)


def _which(verb: str, queue: str | None, task: str | None) -> tuple[Kind, str]:
    if (queue is None) == (task is None):
        raise ConfigurationError(f"{verb}: name one queue or one task: queue=... or task=...")
    if task is not None:
        _check_name(verb, task)
        return "task", task
    read_options(verb, {"queue": queue}, TaskOptions)
    assert queue is not None
    return "queue", queue


def _check_name(verb: str, task: str) -> None:
    if not isinstance(task, str) or not task or "\0" in task:
        raise ConfigurationError(f"{verb}: {task!r} is not the name of a task")
