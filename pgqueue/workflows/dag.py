"""A workflow as a graph of named nodes, built from its beginning, so that it cannot have a cycle."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Literal, Protocol, TypeVar, overload

from pgqueue.errors import InvalidWorkflowError
from pgqueue.model.checks import shown, text
from pgqueue.store import Graph
from pgqueue.tasks.canvas import MAX_NODES, Canvas, Link, canvas_of, too_many
from pgqueue.tasks.joins import AtLeast, Join, check_join
from pgqueue.workflows.compile import Compiler, ReadCall
from pgqueue.workflows.rows import End

if TYPE_CHECKING:
    from pgqueue.database.callers import CallersConnection
    from pgqueue.tasks.workflow_handle import WorkflowHandle

A = TypeVar("A")
B = TypeVar("B")
R_co = TypeVar("R_co", covariant=True)

MAX_NAME: int = 200


class Submit(Protocol):
    """What a builder needs of a PgQueue."""

    async def enqueue_dag(
        self, dag: WorkflowBuilder, *, connection: CallersConnection | None = None, autocommit: bool = False
    ) -> WorkflowHandle[Any]:
        """Enqueue a built workflow."""


@dataclass(frozen=True, slots=True, eq=False)
class DagNode(Generic[R_co]):
    """A node of a workflow that is being built: what later nodes can come after."""

    name: str
    builder: WorkflowBuilder


@dataclass(frozen=True, slots=True)
class _Planned:
    canvas: Canvas[Any]
    after: tuple[str, ...]
    join: Join | None
    fail_fast: bool


class WorkflowBuilder:
    """Collects the nodes of one workflow. `pgq.workflow(name)` makes it."""

    def __init__(self, name: str, submit: Submit) -> None:
        self.name = name
        self._submit = submit
        self._nodes: dict[str, _Planned] = {}

    @overload
    def add(self, name: str, call: Canvas[A]) -> DagNode[A]: ...
    @overload
    def add(
        self, name: str, call: Link[A, B], *, after: tuple[DagNode[A]] | list[DagNode[A]]
    ) -> DagNode[B]: ...
    @overload
    def add(
        self,
        name: str,
        call: Link[Any, B],
        *,
        after: Iterable[DagNode[Any] | str],
        join: Literal["all", "done", "first"] | AtLeast | None = None,
        fail_fast: bool = False,
    ) -> DagNode[B]: ...
    def add(
        self,
        name: str,
        call: Any,
        *,
        after: Iterable[DagNode[Any] | str] = (),
        join: Join | None = None,
        fail_fast: bool = False,
    ) -> DagNode[Any]:
        """Add a node, which starts when those it comes *after* have succeeded, and return it.

        It takes the result of the node before it, or the list of their results if they are several or if a
        *join* is given (see `chord`). *after*: nodes that were added before, or their names, so that there
        can be no cycle. Raises InvalidWorkflowError or InvalidOptionError, and adds nothing.
        """
        text("the name of a node", name, longest=MAX_NAME)
        if name in self._nodes:
            raise InvalidWorkflowError(f"workflow {self.name!r} already has a node {name!r}")
        canvas = canvas_of(call, f"node {name!r}")
        if isinstance(after, str | DagNode):
            raise InvalidWorkflowError(f"node {name!r}: after must be a list of nodes or names")
        names = [self._known(name, each) for each in after]
        twice = next((each for each in names if names.count(each) > 1), None)
        if twice is not None:
            raise InvalidWorkflowError(f"node {name!r} comes after {twice!r} twice; name it once")
        if join is not None or fail_fast:
            join = check_join(join or "all", fail_fast=fail_fast)
            if not names:
                raise InvalidWorkflowError(f"node {name!r} has a join, and comes after nothing")
            if isinstance(join, AtLeast):
                join.of(len(names))
        if len(self._nodes) == MAX_NODES:
            raise too_many()
        self._nodes[name] = _Planned(canvas, tuple(names), join, fail_fast)
        return DagNode(name, self)

    def _known(self, name: str, each: object) -> str:
        if isinstance(each, DagNode):
            if each.builder is not self:
                raise InvalidWorkflowError(f"node {name!r} comes after a node of another workflow")
            return each.name
        if isinstance(each, str) and each in self._nodes:
            return each
        raise InvalidWorkflowError(
            f"node {name!r} comes after {shown(each)}, which workflow {self.name!r} does not have (yet): add "
            "nodes in the order in which they can run"
        )

    async def enqueue(
        self, *, connection: CallersConnection | None = None, autocommit: bool = False
    ) -> WorkflowHandle[Any]:
        """Enqueue the workflow: all of it or nothing. See Canvas.enqueue.

        It comes to the result of the node that no other comes after, or to the list of theirs, in the order
        in which they were added. Raises InvalidWorkflowError if it has no nodes.
        """
        return await self._submit.enqueue_dag(self, connection=connection, autocommit=autocommit)

    def compile(self, reader: ReadCall, size: int) -> Iterator[Graph]:
        """Return the rows of the workflow in parts of about *size* nodes. See `compile_parts`."""
        if not self._nodes:
            raise InvalidWorkflowError(f"workflow {self.name!r} has no nodes")
        compiler = Compiler(reader, self.name, size)
        ends: dict[str, End] = {}
        for name, node in self._nodes.items():
            ends[name] = yield from compiler.add_node(
                node.canvas, [ends[each] for each in node.after], node.join, fail_fast=node.fail_fast
            )
        inner = {each for node in self._nodes.values() for each in node.after}
        last = [end for name, end in ends.items() if name not in inner]
        yield compiler.graph(last[0] if len(last) == 1 else compiler.add_join(last))
