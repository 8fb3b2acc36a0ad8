"""An operation on many jobs that has been begun: the answer that says so, its progress, and its end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pgqueue.client.operation_handle import OperationHandle
from pgqueue.model.operation import OperationProgress
from pgqueue.web.api.inputs import NoQuery
from pgqueue.web.http.json_response import JsonResponse
from pgqueue.web.http.links import path_to
from pgqueue.web.http.problems import NO_STORE
from pgqueue.web.http.queries import read_query
from pgqueue.web.named_in_path import read_progress

P = TypeVar("P", bound=OperationProgress)


class Begun(Generic[P]):
    """The operations at one path. *name* names their progress among the routes.

    *may_read* and *may_cancel* raise HTTPException for a requester who may not.
    """

    def __init__(
        self,
        path: str,
        *,
        name: str,
        find: Callable[[Request], OperationHandle[P]],
        document: Callable[[P], Any],
        may_read: Callable[[Request], Awaitable[None]],
        may_cancel: Callable[[Request], Awaitable[None]],
    ) -> None:
        self._path = path
        self._name = name
        self._find = find
        self._document = document
        self._may_read = may_read
        self._may_cancel = may_cancel

    async def answer(self, request: Request, handle: OperationHandle[P]) -> Response:
        """Return the answer to what began the operation."""
        location = path_to(request, f"{self._name}_progress", id=str(handle.id))
        document = self._document(await handle.progress())
        return JsonResponse(document, 202, headers={**NO_STORE, "Location": location, "Retry-After": "1"})

    async def progress(self, request: Request) -> Response:
        """Return how far one has come."""
        await self._may_read(request)
        handle = self._find(request)
        read_query(request, NoQuery)
        return JsonResponse(self._document(await read_progress(handle)), headers=NO_STORE)

    async def cancel(self, request: Request) -> Response:
        """Stop one."""
        await self._may_cancel(request)
        handle = self._find(request)
        is_cancelled = await handle.cancel()
        found = await read_progress(handle)
        if not is_cancelled:
            raise HTTPException(409, f"{handle.what} {handle.id} has already ended ({found.state})")
        return JsonResponse(self._document(found), headers=NO_STORE)

    def routes(self) -> list[Route]:
        """Return the routes to one."""
        return [
            Route(f"{self._path}/{{id}}", self.progress, name=f"{self._name}_progress"),
            Route(f"{self._path}/{{id}}/cancel", self.cancel, methods=["POST"], name=f"cancel_{self._name}"),
        ]
