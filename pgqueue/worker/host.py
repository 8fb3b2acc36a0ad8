"""What a worker uses of its PgQueue."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any

from pgqueue.background.notifications import Signals
from pgqueue.background.watching import Watches
from pgqueue.database.pool import Database
from pgqueue.events.observers import Observers
from pgqueue.options.retention import Retention
from pgqueue.schedules.ticker import Ticker
from pgqueue.store import Store
from pgqueue.tasks.codec import Codec
from pgqueue.tasks.definition import TaskDefinition
from pgqueue.tasks.middleware import Middleware
from pgqueue.tasks.registry import Registry
from pgqueue.upkeep.ticking import Declare
from pgqueue.worker.outcome.dead_letter_hooks import Hook
from pgqueue.worker.services.children import ChildWorkflows


@dataclass(frozen=True, slots=True)
class WorkerHost:
    """What all workers of a PgQueue share."""

    database: Database
    store: Store
    registry: Registry
    signals: Signals
    watches: Watches
    observers: Observers
    codec: Codec | None
    rng: random.Random
    version: str | None
    """Of the application's code."""
    unknown_task_grace: float | None
    """Seconds after which jobs of a task that no live worker declares have failed; None: never."""
    on_dead: Sequence[Hook]
    find_task: Callable[[str], TaskDefinition | None]
    """Finds the task of a function that no task declares, if it may be imported."""
    retention: Retention
    ticker: Ticker
    declare_schedules: Declare
    workflows: ChildWorkflows
    open_state: Callable[[], AbstractAsyncContextManager[Any]] | None = None
    """Opens the state of a worker; None: it has none."""
    middleware: Sequence[Middleware] = ()
