"""What a task behind a group is given: the members' results as a stream, or how each of them ended."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar, get_args
from uuid import UUID

from pydantic_core import CoreSchema, core_schema

from pgqueue.model.job_error import JobError
from pgqueue.model.jobs import JobStatus

A = TypeVar("A")
R_co = TypeVar("R_co", covariant=True)

Pages = Callable[[], AsyncIterator[Sequence[Any]]]
"""Reads results page by page, from the first one."""


@dataclass(frozen=True, slots=True)
class Outcome(Generic[R_co]):
    """How a member of a workflow ended: what a callback, and the task behind join="done", is given."""

    job_id: UUID
    status: JobStatus
    result: R_co | None = None
    """None unless it succeeded."""
    error: JobError | None = None
    """Why it did not succeed, if an error says so."""

    @property
    def succeeded(self) -> bool:
        """Whether it succeeded."""
        return self.status is JobStatus.SUCCEEDED


class _Schemas(Protocol):
    """pydantic's handler, as far as it is used here."""

    def generate_schema(self, source: Any, /) -> CoreSchema:
        """Return the schema of a type."""


class Results(Generic[A]):
    """The results of a group's members, in input order: `async for result in results`.

    Annotate a task's first parameter with it instead of a list where a group has many members: they are read
    from the database by pages of 1,000 while you iterate, as often as you do. In a test, pass a list.
    """

    __slots__ = ("_items", "_pages")

    def __init__(self, items: Iterable[A] = (), *, pages: Pages | None = None) -> None:
        self._items: Sequence[A] = tuple(items)
        self._pages = pages

    async def __aiter__(self) -> AsyncIterator[A]:
        """Yield each result."""
        if self._pages is None:
            for item in self._items:
                yield item
            return
        async for page in self._pages():
            for item in page:
                yield item

    async def all(self) -> list[A]:
        """Return all results at once."""
        return [item async for item in self]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Results) or self._pages is not None or other._pages is not None:
            return self is other
        return self._items == other._items

    __hash__ = None  # type: ignore[assignment]  # its items may be lists

    def __repr__(self) -> str:
        return "<Results>" if self._pages is not None else f"Results({list(self._items)!r})"

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: _Schemas) -> CoreSchema:
        """Have pydantic take a list, or Results, of the items' type."""
        [item] = get_args(source) or (Any,)
        return core_schema.no_info_wrap_validator_function(
            _read,
            core_schema.list_schema(handler.generate_schema(item)),
            serialization=core_schema.plain_serializer_function_ser_schema(
                _items, return_schema=core_schema.list_schema(handler.generate_schema(item))
            ),
        )


def _items(results: Results[Any]) -> list[Any]:
    return list(results._items)  # noqa: SLF001  # of this module


def _read(value: Any, validate: Callable[[Any], Any]) -> Results[Any]:
    return Results(validate(_items(value) if isinstance(value, Results) else value))
