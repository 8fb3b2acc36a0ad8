"""What operators change while workers run: pauses, and options of tasks. Every worker heeds it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgqueue.client.parts import Parts
from pgqueue.errors import ConfigurationError
from pgqueue.model.checks import MAX_KEY_LENGTH
from pgqueue.model.setting import Kind, Setting
from pgqueue.options.declared import AttemptOptions
from pgqueue.options.levels import read_options
from pgqueue.options.table import Level

if TYPE_CHECKING:
    from typing_extensions import Unpack


class SettingInterface(Parts):
    """What a PgQueue lets operators change. `actor` is who asks for it."""

    async def pause(
        self,
        *,
        queue: str | None = None,
        task: str | None = None,
        actor: str | None = None,
        reason: str | None = None,
    ) -> bool:
        """Let no job of a queue, or of a task, start until it is resumed; False: it was paused already.

        Jobs are enqueued as ever, and running ones finish. Once this has returned, nothing of a paused queue
        starts anywhere; workers heed the pause of a task within about a second.
        Raises ConfigurationError unless one of both is named.
        """
        return await self._set_paused(queue=queue, task=task, paused=True, actor=actor, reason=reason)

    async def resume(
        self,
        *,
        queue: str | None = None,
        task: str | None = None,
        actor: str | None = None,
        reason: str | None = None,
    ) -> bool:
        """Let the jobs of a paused queue or task start again; False: it was not paused."""
        return await self._set_paused(queue=queue, task=task, paused=False, actor=actor, reason=reason)

    async def configure_task(
        self,
        name: str,
        /,
        *,
        actor: str | None = None,
        reason: str | None = None,
        **options: Unpack[AttemptOptions],
    ) -> None:
        """Change how attempts of a task run, in every worker, for those that have not started.

        Workers heed it within about a second. What a call set itself is nearer still; the task's own options,
        its queue's and the PgQueue's are further away. *options* take the place of those configured before;
        none: the task is as it was declared. Raises InvalidOptionError.
        """
        where = f"task {name!r} at run time"
        level = read_options(where, options, Level.RUN_TIME)
        _check_name("configure_task", name)
        self.registry.resolve(name, self.registry.get(name), level)
        async with self._database.acquire() as connection:
            await self._store.configure(connection, name, level.stored(), actor=actor, reason=reason)
        self._signals.publish("settings")

    async def settings(self) -> list[Setting]:
        """Return the queues and tasks that are paused or configured, and who did it, why and when."""
        async with self._database.acquire() as connection:
            return await self._store.list_settings(connection)

    async def _set_paused(
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


def _which(verb: str, queue: str | None, task: str | None) -> tuple[Kind, str]:
    if (queue is None) == (task is None):
        raise ConfigurationError(f"{verb}: name one queue or one task: queue=... or task=...")
    if task is not None:
        _check_name(verb, task)
        return "task", task
    read_options(verb, {"queue": queue}, Level.CALL)
    assert queue is not None
    return "queue", queue


def _check_name(verb: str, task: str) -> None:
    if not isinstance(task, str) or not task or "\0" in task:
        raise ConfigurationError(f"{verb}: {task!r} is not the name of a task")
    if len(task) > MAX_KEY_LENGTH:
        raise ConfigurationError(
            f"{verb}: the task's name is {len(task)} characters long: give at most {MAX_KEY_LENGTH}"
        )
