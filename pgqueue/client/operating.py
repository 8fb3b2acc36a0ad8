"""Settings that operators change while workers run, and every worker applies: pauses, options of tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pgqueue.client.parts import Parts
from pgqueue.errors import ConfigurationError, QueueNotEmptyError
from pgqueue.flow.limits import key_of, weight_of
from pgqueue.model.checks import MAX_TASK_LENGTH, check_notes, text
from pgqueue.model.setting import Kind, Setting
from pgqueue.options.declared import AttemptOptions
from pgqueue.options.levels import read_options
from pgqueue.options.table import Level

if TYPE_CHECKING:
    from typing_extensions import Unpack

MOST_COUNTED: Final = 10_000
"""Jobs that are counted in a queue that is to be removed."""


class SettingInterface(Parts):
    """What operators can change. `actor` and `reason` are recorded with the setting."""

    async def pause(
        self,
        *,
        queue: str | None = None,
        task: str | None = None,
        actor: str | None = None,
        reason: str | None = None,
    ) -> bool:
        """Pause a queue or a task: no new jobs start until it is resumed. False: it was already paused.

        Jobs can still be enqueued, and running jobs finish. Once this returns, no job of a paused queue
        starts anywhere; workers apply the pause of a task within about a second. Raises ConfigurationError
        unless exactly one of *queue* and *task* is passed.
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
        """Resume a paused queue or task; False: it was not paused."""
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
        """Change how attempts of a task run, in every worker, for attempts that have not started.

        Workers apply it within about a second. It overrides the options of the task, its queue and the
        PgQueue; options that a call set itself override it. *options* replace those configured before;
        without any, the task runs as it was declared. Raises InvalidOptionError.
        """
        _check_name("configure_task", name)
        level = read_options(f"task {name!r} at run time", options, Level.RUN_TIME)
        check_notes("configure_task", actor=actor, reason=reason)
        self.registry.resolve(name, self.registry.get(name), level)
        async with self._database.acquire() as connection:
            await self._store.configure(connection, name, level.stored(), actor=actor, reason=reason)
        self._signals.publish("settings")

    async def set_weight(
        self, queue: str, key: object, /, weight: float | None, *, actor: str | None = None
    ) -> None:
        """Change the share of a key of a fair queue, from now on: 2 for twice the jobs of others.

        *key*: the value that `fair_by` comes to. *weight*: how many windows it has, from 0.01 to 1000; at
        least one of its jobs stands ready. None: one window, as all have. Raises InvalidOptionError.
        """
        read_options("set_weight", {"queue": queue}, Level.CALL)
        where = f"set_weight: queue {queue!r}"
        name, windows = key_of(f"{where}: the key", key), weight_of(where, weight)
        check_notes("set_weight", actor=actor)
        async with self._database.acquire() as connection:
            await self._store.set_weight(connection, queue, name, windows, actor)
        self._signals.publish("attend")

    async def weights(self, queue: str, /) -> dict[str, float]:
        """Return the weights of the keys of a fair queue, for those that `set_weight` has set.

        A key that is not a string is its JSON. Raises InvalidOptionError.
        """
        read_options("weights", {"queue": queue}, Level.CALL)
        async with self._database.acquire() as connection:
            return await self._store.list_weights(connection, queue)

    async def remove_queue(self, queue: str, /) -> bool:
        """Remove a queue that nobody uses any more, and its pause; False: there is no such queue.

        Its ended jobs stay, and show its name. It comes back with the next job that is enqueued to it. By
        itself a queue goes after a day without a job, if no worker serves it and it is not paused. Raises
        QueueNotEmptyError if it has jobs that have not ended, and InvalidOptionError.
        """
        read_options("remove_queue", {"queue": queue}, Level.CALL)
        async with self._database.acquire() as connection:
            jobs, is_removed = await self._store.remove_queue(connection, queue, MOST_COUNTED)
        if jobs:
            raise QueueNotEmptyError(queue, jobs=jobs, limit=MOST_COUNTED)
        self._signals.publish("settings")
        return is_removed

    async def settings(self) -> list[Setting]:
        """Return the queues and tasks that are paused or configured: who changed them, why and when."""
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
        """Pause or resume a queue or a task; False: nothing was changed."""
        verb = "pause" if paused else "resume"
        kind, name = _which(verb, queue, task)
        check_notes(verb, actor=actor, reason=reason)
        async with self._database.acquire() as connection:
            changed = await self._store.set_paused(
                connection, kind, name, paused=paused, actor=actor, reason=reason
            )
        if paused:
            # Each in its own transaction: the first waits for claims that read the lanes before the pause,
            # the second sees what they prefetched. Also if it was already paused: that call may have been cut
            # short.
            async with self._database.acquire() as connection:
                await self._store.await_claims(connection)
            async with self._database.acquire() as connection:
                await self._store.return_paused(connection)
        self._signals.publish("settings")
        # What limits may let through now, or let others have.
        self._signals.publish("attend")
        return changed


def _which(verb: str, queue: str | None, task: str | None) -> tuple[Kind, str]:
    if (queue is None) == (task is None):
        raise ConfigurationError(f"{verb}: pass exactly one of queue=... and task=...")
    if task is not None:
        _check_name(verb, task)
        return "task", task
    read_options(verb, {"queue": queue}, Level.CALL)
    assert queue is not None
    return "queue", queue


def _check_name(verb: str, task: str) -> None:
    text(f"{verb}: a task's name", task, longest=MAX_TASK_LENGTH)
