"""The tasks that a process declares, and the options of their queues."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping
from typing import Any

from pgqueue.errors import DuplicateTaskError, InvalidOptionError
from pgqueue.model.unset import UNSET, Unset
from pgqueue.model.webhooks import Webhook
from pgqueue.options.levels import DEFAULTS, MAX_LOSSES, NO_OPTIONS, Options, check_options, read_stored
from pgqueue.options.policy import Policy
from pgqueue.tasks.definition import TaskDefinition
from pgqueue.tasks.payload import POSITIONAL
from pgqueue.tasks.redaction import REDACTED, redact, redact_headers, redact_value


class Registry:
    """Tasks by name, and the options of their queues and of the PgQueue."""

    def __init__(self, defaults: Options) -> None:
        self._defaults = defaults
        self._tasks: dict[str, TaskDefinition] = {}
        self._queues: dict[str, Options] = {}
        self._policies: dict[tuple[str, str], Policy] = {}
        self._log_shares: dict[tuple[str, str], float] = {}
        self._at_run_time: Mapping[str, Options] = {}
        self._wraps = False
        self.ageing: dict[str, float] = {}
        """The queues whose waiting jobs are raised, each with the seconds after which that is done."""

    def add(self, task: TaskDefinition) -> None:
        """Add *task*. Raises DuplicateTaskError, InvalidOptionError."""
        known = self._tasks.get(task.name)
        if known is not None:
            raise DuplicateTaskError(
                f"task {task.name!r} is already declared by {known.where}; rename one of them"
            )
        self.resolve(task.name, task, NO_OPTIONS)
        self._tasks[task.name] = task
        if self._wraps:
            task.wrap()

    def wrap(self) -> None:
        """Have middleware run around the calls of all tasks."""
        self._wraps = True
        for task in self._tasks.values():
            task.wrap()

    def get(self, name: str) -> TaskDefinition | None:
        """Return the task called *name*, if this process declares it."""
        return self._tasks.get(name)

    @property
    def names(self) -> Iterable[str]:
        """The names of all tasks."""
        return self._tasks.keys()

    def set_queue(self, queue: str, options: Options) -> None:
        """Declare *queue*, with the options of its jobs. Raises InvalidOptionError, and changes nothing."""
        before = self._queues
        self._queues = {**before, queue: options}
        try:
            for task in self._tasks.values():
                self.resolve(task.name, task, NO_OPTIONS)
        except InvalidOptionError:
            self._queues = before
            raise
        self._policies.clear()
        self._log_shares.clear()

    def tell_everywhere(self, webhook: Webhook) -> None:
        """Have *webhook* tell of the jobs whose task, queue and call name none."""
        before = self._defaults.get("webhooks", ())
        self._defaults = self._defaults | Options(webhooks=(*before, webhook))

    def set_ageing(self, queue: str, seconds: float | None) -> None:
        """Have jobs of *queue* raised for each so many seconds that they wait; None: never."""
        if seconds is None:
            self.ageing.pop(queue, None)
        else:
            self.ageing[queue] = seconds

    def set_at_run_time(self, options: Mapping[str, Options]) -> None:
        """Apply *options*, by task, to the attempts of tasks, over those of their declarations."""
        self._at_run_time = options
        self._policies.clear()

    def stored_at_run_time(self, task: str) -> str | None:
        """Return, as JSON, the options that `set_at_run_time` set for a task."""
        return self._at_run_time.get(task, NO_OPTIONS).stored()

    @property
    def definitions(self) -> Iterable[TaskDefinition]:
        """All tasks."""
        return self._tasks.values()

    @property
    def queues(self) -> frozenset[str]:
        """The declared queues, those that tasks name, and the one of tasks that name none."""
        named = {task.options["queue"] for task in self._tasks.values() if "queue" in task.options}
        return frozenset({*self._queues, *named, self._queue_of(NO_OPTIONS)})

    @property
    def default_queue(self) -> str:
        """The queue of tasks that name none."""
        return self._queue_of(NO_OPTIONS)

    def queue_of(self, task: TaskDefinition) -> str:
        """Return the queue of jobs of *task* whose calls name none."""
        return self._queue_of(task.options)

    def _queue_of(self, near: Options) -> str:
        for level in (near, self._defaults, DEFAULTS):
            if "queue" in level:
                return str(level["queue"])
        raise AssertionError("unreachable: the defaults have a queue")

    def resolve(self, name: str, task: TaskDefinition | None, call: Options) -> Options:
        """Return every option of a call of task *name*: all levels merged, over the defaults.

        Raises InvalidOptionError if levels that meet in this call contradict each other.
        """
        near = call if task is None else task.options | call
        queue = self._queue_of(near)
        merged = self._defaults | self._queues.get(queue, NO_OPTIONS) | near
        check_options(f"task {name!r} in queue {queue!r}", merged)
        return DEFAULTS | merged

    def redact(self, task: str, queue: str, arguments: Any) -> Any:
        """Return the stored *arguments* of a job as they may be shown.

        The paths of all levels add up, and values that their types call secret (SecretStr) are replaced, too.
        """
        definition = self._tasks.get(task)
        paths = self._redacted_paths(task, queue)
        if definition is None:
            return redact(arguments, paths, positional=POSITIONAL)
        known = definition.arguments
        if isinstance(arguments, dict) and any(map(known.is_surplus, arguments)) and (paths or known.secrets):
            # What the task does not know may be a secret by another name, and so may the name itself.
            kept = {name: value for name, value in arguments.items() if not known.is_surplus(name)}
            arguments = {**kept, REDACTED: REDACTED}
        return redact(
            arguments, paths, positional=POSITIONAL, parameters=known.parameters, secrets=known.secrets
        )

    def redact_headers(self, task: str, queue: str, headers: Mapping[str, str]) -> Mapping[str, str] | Unset:
        """Return the *headers* of a job as they may be shown; UNSET: as they are."""
        paths = self._redacted_paths(task, queue)
        return redact_headers(headers, paths) if paths else UNSET

    def _redacted_paths(self, task: str, queue: str) -> set[str]:
        return {path for level in self._levels(task, queue) for path in level.get("redact", ())}

    def redact_result(self, task: str, result: Any) -> Any | Unset:
        """Return the stored *result* of a job with its secrets replaced; UNSET: its type has none."""
        definition = self._tasks.get(task)
        if definition is None or not definition.result.secrets:
            return UNSET
        return redact_value(result, definition.result.secrets)

    def redacts(self, task: str, queue: str) -> bool:
        """Whether any level redacts arguments of jobs of *task* in *queue*."""
        definition = self._tasks.get(task)
        has_secrets = definition is not None and bool(definition.arguments.secrets)
        return has_secrets or any(level.get("redact") for level in self._levels(task, queue))

    def log_share(self, task: str, queue: str) -> float:
        """Return the fraction of the jobs of *task* in *queue* whose successful transitions are logged."""
        share = self._log_shares.get((task, queue))
        if share is None:
            share = DEFAULTS["log"]
            for level in self._levels(task, queue):
                share = level.get("log", share)
            if task in self._tasks:
                # Other names come from the database: their number has no bound.
                self._log_shares[task, queue] = share
        return share

    def has_traceback(self, task: str, queue: str, level: int) -> bool:
        """Whether a log record of *level* about a job of *task* in *queue* has the exception."""
        wanted = DEFAULTS["log_tracebacks"]
        for each in self._levels(task, queue):
            wanted = each.get("log_tracebacks", wanted)
        least = {"all": logging.WARNING, "failures": logging.ERROR}
        return level >= least.get(wanted, math.inf)

    def _levels(self, task: str, queue: str) -> list[Options]:
        """Return the levels that concern jobs of *task* in *queue*, the least specific first."""
        definition = self._tasks.get(task)
        levels = [self._defaults, self._queues.get(queue, NO_OPTIONS)]
        return levels if definition is None else [*levels, definition.options]

    def policy(self, task: TaskDefinition, queue: str, call: Options = NO_OPTIONS) -> Policy:
        """Return how attempts of *task* in *queue* run. *call*: the options that the call set itself."""
        if call is not NO_OPTIONS:
            return self._resolve_policy(task, queue, call)
        policy = self._policies.get((task.name, queue))
        if policy is None:
            policy = self._policies[task.name, queue] = self._resolve_policy(task, queue, NO_OPTIONS)
        return policy

    def _resolve_policy(self, task: TaskDefinition, queue: str, call: Options) -> Policy:
        at_run_time = self._at_run_time.get(task.name, NO_OPTIONS)
        around = self._defaults | self._queues.get(queue, NO_OPTIONS) | task.options
        return Policy.of(around | at_run_time | call, call)

    def max_attempts(self, name: str, queue: str, stored: Mapping[str, Any]) -> int | None:
        """Return how many attempts a job of task *name* may have. *stored*: the options stored with it.

        None: no limit, or it is not known here.
        """
        try:
            call = read_stored(stored)
        except InvalidOptionError:
            # Another program has written them. The job's attempts will say so.
            return None
        task = self._tasks.get(name)
        retries = (
            call.get("max_retries") if task is None else self.policy(task, queue, call).retry.max_retries
        )
        return None if retries is None else retries + 1

    def loss_limits(self) -> dict[str, int]:
        """Return how often each task's jobs may be lost, where it is not the default.

        The worker that rescues a job may not know its task; the one that claimed it says it in its lease.
        """
        limits = {
            name: self.policy(task, self.queue_of(task)).max_losses for name, task in self._tasks.items()
        }
        return {name: limit for name, limit in limits.items() if limit != MAX_LOSSES}
