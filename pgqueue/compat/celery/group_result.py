"""The results of a group."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any
from uuid import uuid4

from pgqueue.compat.celery.base_result import BaseResult
from pgqueue.compat.missing import not_there


class ResultSet(BaseResult):
    """Results of any tasks, in their order."""

    def __init__(self, results: Sequence[Any] = (), **_: Any) -> None:
        self.id = str(uuid4())
        self.results = list(results)

    def add(self, result: Any) -> None:
        """Add a result, if it is not there."""
        if result not in self.results:
            self.results.append(result)

    def update(self, results: Iterable[Any]) -> None:
        """Add results that are not there."""
        for each in results:
            self.add(each)

    def remove(self, result: Any) -> None:
        """Remove a result, or one by its id. Raises KeyError."""
        try:
            self.results.remove(result)
        except ValueError:
            raise KeyError(result) from None

    def discard(self, result: Any) -> None:
        """Remove a result if it is there."""
        if result in self.results:
            self.remove(result)

    def clear(self) -> None:
        """Remove all results."""
        self.results.clear()

    def __iter__(self) -> Iterator[Any]:
        return iter(self.results)

    def __len__(self) -> int:
        return len(self.results)

    def __getitem__(self, index: int) -> Any:
        return self.results[index]

    def __bool__(self) -> bool:
        return True

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ResultSet) and other.results == self.results

    def __hash__(self) -> int:
        # Results can be added, so it has no hash of its own.
        raise TypeError(f"unhashable type: {type(self).__name__!r}")

    def ready(self) -> bool:
        """Whether all have ended."""
        return all(each.ready() for each in self.results)

    def successful(self) -> bool:
        """Whether all have succeeded."""
        return all(each.successful() for each in self.results)

    def failed(self) -> bool:
        """Whether one has failed."""
        return any(each.failed() for each in self.results)

    def waiting(self) -> bool:
        """Whether one has not ended."""
        return any(not each.ready() for each in self.results)

    def completed_count(self) -> int:
        """Count those that have succeeded."""
        return sum(each.successful() for each in self.results)

    def maybe_throw(self, callback: Any = None, propagate: bool = True) -> None:
        """Raise the exception of the first one that has failed."""
        for each in self.results:
            each.maybe_throw(callback=callback, propagate=propagate)

    maybe_reraise = maybe_throw

    def get(
        self,
        timeout: float | None = None,
        propagate: bool = True,
        interval: float = 0.5,
        callback: Callable[[str, Any], object] | None = None,
        *,
        disable_sync_subtasks: bool = True,
        **_: Any,
    ) -> list[Any]:
        """Wait until all have ended, and return what they returned, in their order. As AsyncResult.get."""
        del interval
        ends_at = None if timeout is None else time.monotonic() + timeout
        values = []
        for each in self.results:
            left = None if ends_at is None else max(0.001, ends_at - time.monotonic())
            value = each.get(left, propagate, disable_sync_subtasks=disable_sync_subtasks)
            if callback is not None:
                callback(each.id, value)
            values.append(value)
        return values

    join = join_native = get

    def iterate(self, *args: Any, **kwargs: Any) -> Iterator[Any]:
        """Yield the results, in their order."""
        for each in self.results:
            yield each.get(*args, **kwargs)

    def revoke(self, **how: Any) -> None:
        """Revoke all of them: see AsyncResult.revoke."""
        for each in self.results:
            each.revoke(**how)

    def forget(self) -> None:
        """Forget all results here."""
        for each in self.results:
            each.forget()

    def iter_native(self, *_: Any, **__: Any) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield the id and the state, result and traceback of each, in their order, once it has ended."""
        for each in self.results:
            each.get(propagate=False)
            yield (
                each.id,
                {
                    "task_id": each.id,
                    "status": each.state,
                    "result": each.result,
                    "traceback": each.traceback,
                    "children": [],
                },
            )


class GroupResult(ResultSet):
    """The results of a group, in the order of its members."""

    def __init__(
        self,
        id: str,  # noqa: A002  # Celery's name
        results: Sequence[Any] = (),
        parent: Any = None,
        **_: Any,
    ) -> None:
        super().__init__(results)
        self.id = str(id)
        self.parent = parent

    @property
    def children(self) -> list[Any]:
        """The same as `results`."""
        return self.results

    def __hash__(self) -> int:
        return hash(self.id)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, GroupResult) and other.id == self.id and other.results == self.results

    def save(self, *_: Any, **__: Any) -> None:
        """Not there."""
        raise not_there("GroupResult.save()", "keep the ids of its results")

    @classmethod
    def restore(cls, *_: Any, **__: Any) -> Any:
        """Not there."""
        raise not_there("GroupResult.restore()", "make GroupResult(id, [AsyncResult(id) for id in ids])")

    def as_tuple(self) -> Any:
        """Return the ids, in Celery's form."""
        parent = None if self.parent is None else self.parent.as_tuple()
        return (self.id, parent), [each.as_tuple() for each in self.results]
