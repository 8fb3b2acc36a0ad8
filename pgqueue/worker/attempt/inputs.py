"""Reads what a job of a workflow takes from those before it, before its handler starts.

Results are never copied to the jobs that take them: they are read here from the jobs that have them, by the
edges of the workflow. What is to be read stands in the job's arguments (`tasks.payload.INPUTS`), so that a
plain job is asked nothing:

result      what the one node before it came to: a job's result, or the list of a group
results     the list of what the nodes before it came to, in their order
succeeded   the same, of those that have succeeded by now
outcomes    the list of how they ended
outcome     how the one node before it ended

"succeeded of join" and "outcomes of join" are of the nodes before the one before it, which is a join.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, Final, Protocol
from uuid import UUID

from pgqueue.store import Input, InputResults
from pgqueue.tasks.codec import Codec
from pgqueue.tasks.definition import TaskDefinition
from pgqueue.tasks.refusals import UndecodableError
from pgqueue.tasks.results import Results

PAGE: Final = 1000
"""Results that one statement reads."""
MAX_LENGTH: Final = 64 * 1024 * 1024
"""Characters of results, as JSON, that a list may have."""

ReadPage = Callable[[UUID, int, int], Awaitable[Sequence[Input]]]
"""Returns up to so many inputs of a node behind a position, in their order."""


class ReadResults(Protocol):
    """Returns the results of as many; of those that have succeeded alone, if asked for."""

    def __call__(self, node: UUID, after: int, limit: int, /, *, succeeded: bool) -> Awaitable[InputResults]:
        """Read them."""


_LISTS: Final = frozenset({"results", "succeeded", "outcomes"})


class InvalidInputsError(Exception):
    """What the jobs before it came to cannot be the first argument of a job. It fails."""


class Inputs:
    """The inputs of jobs, as the database has them."""

    def __init__(self, read: ReadPage, read_results: ReadResults, codec: Codec | None) -> None:
        self._read = read
        self._read_results = read_results
        self._codec = codec

    async def call(
        self, job_id: UUID, definition: TaskDefinition, document: str, inputs: str
    ) -> tuple[str, tuple[Any, ...], dict[str, Any]]:
        """Return the whole arguments *document* of a job, and the call that it is.

        A handler that takes Results gets a stream of them, unless it runs in another process. Raises
        InvalidInputsError, UndecodableError, DatabaseUnavailableError, and what the codec raises.
        """
        node, kind = await self._place(job_id, inputs)
        read_items = None if definition.is_isolated else definition.arguments.read_items
        if kind in _LISTS and read_items is not None:
            args, kwargs = definition.arguments.decode(definition.arguments.prepend(document, "[]"))

            async def pages() -> AsyncIterator[Sequence[Any]]:
                async for page in self._pages(node, kind):
                    yield read_items(f"[{','.join(page)}]")

            return document, *definition.arguments.with_first(args, kwargs, Results(pages=pages))
        value = await self._value(node, kind)
        whole = definition.arguments.prepend(document, value)
        try:
            return whole, *definition.arguments.decode(whole)
        except UndecodableError as error:
            raise InvalidInputsError(f"the results before it do not match the task: {error}") from None

    async def _place(self, job_id: UUID, inputs: str) -> tuple[UUID, str]:
        """Return the node whose edges are to be read, and how."""
        kind, _, of = inputs.partition(" of ")
        if kind not in {*_LISTS, "result", "outcome"} or of not in {"", "join"}:
            raise UndecodableError(
                f"this version does not know how to read {inputs!r} from the jobs before it"
            )
        if of:
            return (await self._only(job_id)).upstream, kind
        if kind == "result" and (before := await self._only(job_id)).is_join:
            return before.upstream, "results"
        return job_id, kind

    async def _only(self, node: UUID) -> Input:
        found = await self._read(node, -1, 1)
        if not found:
            raise InvalidInputsError("the job before it is gone, and its result with it")
        return found[0]

    async def _value(self, node: UUID, kind: str) -> str:
        if kind == "result":
            return await self._result(await self._only(node))
        if kind == "outcome":
            return await self._outcome(await self._only(node))
        found: list[str] = []
        length = 0
        async for page in self._pages(node, kind):
            found += page
            length += sum(map(len, page))
            if length > MAX_LENGTH:
                raise InvalidInputsError(
                    f"the results before it are more than {MAX_LENGTH:,} characters of JSON: annotate the "
                    "task's first parameter with Results[...] to read them by pages"
                )
        return f"[{','.join(found)}]"

    async def _pages(self, node: UUID, kind: str) -> AsyncIterator[list[str]]:
        """Yield the inputs of *node* as JSON, page by page."""
        after, is_more = -1, True
        while is_more:
            if kind == "outcomes":
                rows = await self._read(node, after, PAGE)
                yield [await self._outcome(row) for row in rows]
                after, is_more = rows[-1].position if rows else after, len(rows) == PAGE
                continue
            succeeded = kind == "succeeded"
            page = await self._read_results(node, after, PAGE, succeeded=succeeded)
            if page.has_joins:
                rows = await self._read(node, after, PAGE)
                yield [await self._result(row) for row in rows if not succeeded or row.status == "succeeded"]
            else:
                yield [self._decode(result) for result in page.results]
            after, is_more = page.reached, page.is_more

    async def _result(self, row: Input) -> str:
        if row.is_join:
            return await self._value(row.upstream, "results")
        return self._decode(row.result)

    def _decode(self, result: str | None) -> str:
        if result is None:
            return "null"
        return result if self._codec is None else self._codec.decode(result)

    async def _outcome(self, row: Input) -> str:
        succeeded = row.status == "succeeded"
        status = json.dumps(row.status or "cancelled")
        result = await self._result(row) if succeeded else "null"
        error = "null"
        if row.error is not None:
            told = json.loads(row.error)
            error = json.dumps({"type": told.get("type", ""), "message": told.get("message", "")})
        return f'{{"job_id":"{row.upstream}","status":{status},"result":{result},"error":{error}}}'
