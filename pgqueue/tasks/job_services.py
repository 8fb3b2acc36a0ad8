"""What a worker does for the handler that it runs: the part of a context that needs a database."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, Protocol
from uuid import UUID

from pgqueue.tasks.limiters import Allowed
from pgqueue.tasks.workflow_handle import ChildHandle

if TYPE_CHECKING:
    from pgqueue.database.connection import Connection
    from pgqueue.tasks.canvas import Canvas


class JobServices(Protocol):
    """What a context reaches the database through. Created for one attempt."""

    def transaction(self) -> AbstractAsyncContextManager[Connection]:
        """See JobContext.transaction."""

    async def step(
        self, name: str, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Any:
        """See JobContext.step."""

    async def wait(
        self,
        name: str,
        event: str | None,
        timeout: float | None,  # noqa: ASYNC109  # the job's, and not this call's
    ) -> str | None:
        """Return the JSON of an event, or None once *timeout* is over. Raises Suspend until then."""

    async def start(self, name: str, canvas: Canvas[Any], *, is_detached: bool) -> ChildHandle[Any]:
        """See JobContext.start."""

    async def add(self, name: str, members: Sequence[Canvas[Any]]) -> None:
        """See JobContext.add."""

    async def join(self, children: Sequence[ChildHandle[Any]]) -> list[Any]:
        """Return what child workflows came to. Raises Suspend while one of them goes on."""

    def progress(self, report: str) -> None:
        """Record a report, as JSON. From any thread."""

    async def enter(self, allowed: Allowed, wait: float | None) -> tuple[UUID | None, float | None]:
        """Return what the attempt holds of a limiter now, or None and when there may be room."""

    async def leave(self, hold: UUID) -> None:
        """Give back what it holds of a limiter."""
