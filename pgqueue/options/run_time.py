"""Settings that operators change while workers run: pauses, and options of tasks. Values only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from pgqueue.errors import InvalidOptionError
from pgqueue.model.setting import Kind
from pgqueue.options.levels import Options, restore_options


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings, as workers apply them."""

    paused_queues: frozenset[str] = frozenset()
    paused_tasks: frozenset[str] = frozenset()
    options: Mapping[str, Options] = field(default_factory=dict)
    """By task."""
    unreadable: frozenset[str] = frozenset()
    """Tasks whose stored options cannot be read: those of their declaration apply."""
    fair_queues: frozenset[str] = frozenset()
    """The queues that keys share: more of their jobs may wait than stand ready."""

    @classmethod
    def of(cls, stored: Iterable[tuple[Kind, str, bool, str | None]]) -> Settings:
        """Return the settings of *stored* rows: kind, name, whether it is paused, and options as JSON."""
        rows = list(stored)
        options: dict[str, Options] = {}
        unreadable: set[str] = set()
        for _, name, _, document in rows:
            if document is None:
                continue
            try:
                options[name] = restore_options(document)
            except InvalidOptionError:
                unreadable.add(name)
        return cls(
            frozenset(name for kind, name, is_paused, _ in rows if is_paused and kind == "queue"),
            frozenset(name for kind, name, is_paused, _ in rows if is_paused and kind == "task"),
            options,
            frozenset(unreadable),
        )

    def stops(self, queue: str, task: str) -> bool:
        """Whether a lane of *queue* (for one *task*, unless that is empty) is paused."""
        return queue in self.paused_queues or task in self.paused_tasks
