"""What the results of one task and of several have in common."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar

from pgqueue.compat.celery import current
from pgqueue.compat.missing import Lacking

_may_block: list[bool] = []


@contextmanager
def allow_join_result() -> Iterator[None]:
    """Let tasks wait for results inside the block. Their slots are held meanwhile."""
    _may_block.append(True)
    try:
        yield
    finally:
        _may_block.pop()


class BaseResult(Lacking):
    """What results of one task and of groups have in common."""

    lacking = "wait with .get(), walk by .parent, and read app.pgqueue for the rest"
    ways: ClassVar[Mapping[str, str]] = {
        "backend": "leave it out: results are in the app's database",
        "then": "pass link= where it is sent, or wait with .get()",
    }
    supports_native_join = False

    id: str
    parent: Any = None

    def __str__(self) -> str:
        return self.id

    def __hash__(self) -> int:
        return hash(self.id)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, str):
            return other == self.id
        return isinstance(other, BaseResult) and other.id == self.id

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.id}>"


def check_blocking(*, disable_sync_subtasks: bool) -> None:
    """Raise RuntimeError inside a task, which would hold its slot while it waits."""
    if disable_sync_subtasks and not _may_block and current.running.get() is not None:
        raise RuntimeError(
            "Never call result.get() within a task: it holds a slot while it waits. Compose the tasks with "
            "chain, group or chord"
        )
