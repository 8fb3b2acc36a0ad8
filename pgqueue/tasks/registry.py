"""The tasks that a process knows, and the options of their queues."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from pgqueue.errors import DuplicateTaskError, InvalidOptionError
from pgqueue.model.unset import UNSET, Unset
from pgqueue.options.levels import DEFAULTS, NO_OPTIONS, Options, check_options, restore_options
from pgqueue.options.policy import Policy
from pgqueue.tasks.arguments import POSITIONAL
from pgqueue.tasks.definition import TaskDefinition
from pgqueue.tasks.redaction import UNKNOWN, redact


class Registry:
    """Tasks by name, and the options that hold around them."""

    def __init__(self, defaults: Options) -> None:
        self._defaults = defaults
        self._tasks: dict[str, TaskDefinition] = {}
        self._queues: dict[str, Options] = {}
        self._policies: dict[tuple[str, str], Policy] = {}
        self._log_shares: dict[tuple[str, str], float] = {}
        self._at_run_time: Mapping[str, Options] = {}

    def add(self, task: TaskDefinition) -> None:
        """Register *task*. Raises DuplicateTaskError, InvalidOptionError."""
        known = self._tasks.get(task.name)
        if known is not None:
            raise DuplicateTaskError(
                f"task {task.name!r} is already registered by {known.where}; give one of them another name"
            )
        self.check(task.name, task, NO_OPTIONS)
        self._tasks[task.name] = task

    def get(self, name: str) -> TaskDefinition | None:
        """Return the task called *name*, if there is one here."""
        return self._tasks.get(name)

    @property
    def names(self) -> Iterable[str]:
        """The names of all tasks."""
        return self._tasks.keys()

    def set_queue(self, queue: str, options: Options) -> None:
        """Declare *queue*, with the options of its jobs. Raises InvalidOptionError, and changes nothing."""
        before = self._queues.get(queue)
        self._queues[queue] = options
        try:
            for task in self._tasks.values():
                self.check(task.name, task, NO_OPTIONS)
        except InvalidOptionError:
            if before is None:
                del self._queues[queue]
            else:
                self._queues[queue] = before
            raise
        self._policies.clear()
        self._log_shares.clear()

    def check(self, name: str, task: TaskDefinition | None, call: Options) -> None:
        """Raise InvalidOptionError if the levels that meet in a call of task *name* do not fit together."""
        near = call if task is None else call.over(task.options)
        queue = near.over(self._defaults).over(DEFAULTS).queue
        around = self._queues.get(str(queue), NO_OPTIONS).over(self._defaults)
        check_options(f"task {name!r} in queue {queue!r}", near.over(around))

    def set_at_run_time(self, options: Mapping[str, Options]) -> None:
        """Let the attempts of tasks run with *options*, by task, over those of their declarations."""
        self._at_run_time = options
        self._policies.clear()

    def stored_at_run_time(self, task: str) -> str | None:
        """Return, as JSON, what `set_at_run_time` set for a task."""
        return self._at_run_time.get(task, NO_OPTIONS).stored()

    @property
    def definitions(self) -> Iterable[TaskDefinition]:
        """All tasks."""
        return self._tasks.values()

    @property
    def queues(self) -> frozenset[str]:
        """The declared queues, those that tasks name, and the one of tasks that name none."""
        named = {task.options.queue for task in self._tasks.values()} | {self._defaults.over(DEFAULTS).queue}
        return frozenset({*self._queues, *(name for name in named if isinstance(name, str))})

    def resolve(self, task: TaskDefinition | None, call: Options) -> Options:
        """Merge the levels for one call: the call over the task over the queue over the global ones."""
        near = call if task is None else call.over(task.options)
        base = self._defaults.over(DEFAULTS)
        queue = near.over(base).queue
        assert isinstance(queue, str)
        return near.over(self._queues.get(queue, NO_OPTIONS)).over(base)

    def redact(self, task: str, queue: str, arguments: Any) -> Any:
        """Return the stored *arguments* of a job as they may be shown. Levels add up: see `redact`."""
        definition = self._tasks.get(task)
        paths = {
            path
            for level in self._levels(task, queue)
            if not isinstance(level.redact, Unset)
            for path in level.redact
        }
        signature = UNKNOWN if definition is None else definition.arguments.signature
        return redact(arguments, paths, positional=POSITIONAL, signature=signature)

    def redacts(self, task: str, queue: str) -> bool:
        """Whether some level says of jobs of *task* in *queue* that something of them is not to be shown."""
        return any(level.redact for level in self._levels(task, queue) if level.redact is not UNSET)

    def log_share(self, task: str, queue: str) -> float:
        """Return of which share (0 to 1) of the jobs of *task* in *queue* it is logged what goes well."""
        share = self._log_shares.get((task, queue))
        if share is None:
            said = [level.log for level in self._levels(task, queue) if not isinstance(level.log, Unset)]
            share = said[-1] if said else 1.0
            if task in self._tasks:
                # Names of others come from the database: there is no end to them.
                self._log_shares[task, queue] = share
        return share

    def _levels(self, task: str, queue: str) -> list[Options]:
        """Return what is said of jobs of *task* in *queue*, the widest level first."""
        definition = self._tasks.get(task)
        levels = [self._defaults, self._queues.get(queue, NO_OPTIONS)]
        return levels if definition is None else [*levels, definition.options]

    def policy(self, task: TaskDefinition, queue: str) -> Policy:
        """Return how attempts of *task* in *queue* run where the call set nothing itself."""
        policy = self._policies.get((task.name, queue))
        if policy is None:
            policy = self._policies[task.name, queue] = self.policy_of_call(task, queue, NO_OPTIONS)
        return policy

    def policy_of_call(self, task: TaskDefinition, queue: str, call: Options) -> Policy:
        """Return how attempts run where the call set *call* itself."""
        around = self._queues.get(queue, NO_OPTIONS).over(self._defaults)
        at_run_time = self._at_run_time.get(task.name, NO_OPTIONS)
        return Policy.of(call.over(at_run_time).over(task.options).over(around), call)

    def max_attempts(self, name: str, queue: str, call: Mapping[str, Any]) -> int | None:
        """Return how many attempts a job of task *name* may have. *call*: what its call set, as stored.

        None: without limit, or it is not known here.
        """
        task = self._tasks.get(name)
        try:
            options = restore_options(json.dumps(call)) if call else NO_OPTIONS
        except InvalidOptionError:
            # Somebody else's program has written them. Its attempts will say so.
            return None
        if task is None:
            retries = None if isinstance(options.max_retries, Unset) else options.max_retries
        elif call:
            retries = self.policy_of_call(task, queue, options).retry.max_retries
        else:
            retries = self.policy(task, queue).retry.max_retries
        return None if retries is None else retries + 1

    def loss_limits(self) -> dict[str, int]:
        """Return how often each task's jobs may be lost, where it is not the default.

        A rescuer may not know the task; the worker that claims its jobs says it in its lease.
        """
        limits = {
            name: self.policy_of_call(task, str(self.resolve(task, NO_OPTIONS).queue), NO_OPTIONS).max_losses
            for name, task in self._tasks.items()
        }
        return {name: limit for name, limit in limits.items() if limit != DEFAULTS.max_losses}
