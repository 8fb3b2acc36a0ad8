"""From a canvas to the rows of its workflow: jobs, the joins of groups, and who waits for whom. No I/O.

A node is known by its number until all are known, and ids are given in the order of the numbers: an id is
greater than those of all nodes before it. Nothing here calls itself, so that a chain of chains can be as deep
as it is long.

A group is written as a join, which is a node without a job, only where something asks for its end as one:
another group behind it, a callback, the end of the workflow. A task behind a group waits for the members
themselves. So edges are linear in nodes: a group of 1,000 behind one of 1,000 is 2,000 edges and no million.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Protocol
from uuid import UUID

from pgqueue.enqueueing.gc_pause import FEW, collector_paused
from pgqueue.errors import InvalidOptionError, InvalidWorkflowError
from pgqueue.model.ids import new_ids
from pgqueue.options.levels import NO_OPTIONS, Options
from pgqueue.store import Barrier, Callback, Edge, Graph, NewJob, Node, Template
from pgqueue.tasks.canvas import MAX_NODES, Callbacks, Canvas, Chain, Group, too_many
from pgqueue.tasks.joins import AtLeast, Join
from pgqueue.tasks.signature import Signature

MAX_LISTS: Final = 100
"""Groups within groups: each is a list in a list, and parsers of JSON do not read endless depths."""
UNREAD: Final = -1
"""The position of an edge whose upstream is only waited for."""

MAX_LENGTH: Final = 256 * 1024 * 1024
"""Characters of arguments in one workflow: one statement writes them."""

_STARTS: Final = ("delay", "run_at")
"""Options that a part hands down to its first jobs alone."""
_REFUSED: Final = ("id", "on_duplicate", "depends_on", "allow_failure")
_LISTS: Final = frozenset({"results", "succeeded", "outcomes", ""})
"""What is taken from several nodes, or from none."""


class ReadCall(Protocol):
    """Resolves and encodes a call: `encode` with a first argument, or, as a link, without it."""

    def template(self, call: Signature[Any]) -> Template:
        """Return the job of a call without its arguments. Raises InvalidOptionError."""

    def encode(self, call: Signature[Any]) -> str:
        """Return the arguments of a whole call as they are stored. Raises InvalidArgumentsError."""

    def encode_link(self, call: Signature[Any], inputs: str) -> str:
        """Return those of a call that lacks the first argument, which it takes from *inputs*."""


@dataclass(frozen=True, slots=True)
class End:
    """What a part comes to, for what is behind it: a job, a join, several nodes, or a list that is empty.

    `nodes`: what is waited for. `inputs`: what a job behind it takes (see worker.attempt.inputs), or "" for
    an empty list. `is_join`: whether the one node is a join.
    """

    nodes: tuple[int, ...]
    inputs: str
    is_join: bool = False
    join: Join = "all"
    fail_fast: bool = False


@dataclass(slots=True)
class _Rows:
    jobs: list[NewJob | None] = field(default_factory=list)
    takes: list[bool] = field(default_factory=list)
    barriers: list[tuple[int, Barrier]] = field(default_factory=list)
    edges: list[tuple[int, int, int, bool]] = field(default_factory=list)
    callbacks: list[tuple[int, Callback]] = field(default_factory=list)
    length: int = 0

    def add(self, job: NewJob | None, *, takes_inputs: bool = False) -> int:
        if len(self.jobs) == MAX_NODES:
            raise too_many()
        self.length += 0 if job is None else len(job.document)
        if self.length > MAX_LENGTH:
            raise InvalidWorkflowError(
                f"the arguments of a workflow's jobs can have {MAX_LENGTH:,} characters of JSON in all: "
                "store the data elsewhere and pass references to it"
            )
        self.jobs.append(job)
        self.takes.append(takes_inputs)
        return len(self.jobs) - 1


_NOBODY: Final = UUID(int=0)
_Parts = Generator["tuple[Canvas[Any], End | None, _Given]", "End", "End"]


@dataclass(frozen=True, slots=True)
class _Given:
    """What a part is given by those around it: options for all and for its first jobs; `lists`: its depth."""

    options: Options = NO_OPTIONS
    start: Options = NO_OPTIONS
    lists: int = 0


@collector_paused(FEW)  # how large it is shows only as it is read
def compile_canvas(canvas: Canvas[Any], reader: ReadCall, *, name: str | None = None) -> Graph:
    """Return the rows of *canvas*.

    Raises InvalidWorkflowError, InvalidOptionError, InvalidArgumentsError, PayloadTooLargeError, and what the
    codec raises.
    """
    return Compiler(reader).compile(canvas, name)


class Compiler:
    """Compiles one workflow."""

    def __init__(self, reader: ReadCall) -> None:
        self._reader = reader
        self._rows = _Rows()
        self._templates: dict[tuple[int, int, int, int], tuple[Template, object]] = {}
        """By the task and the options, whose objects are kept, so that no other ones take their ids."""

    def compile(self, canvas: Canvas[Any], name: str | None) -> Graph:
        """Return the rows of *canvas*."""
        return self.graph(self.add(canvas, None), name)

    def add_node(
        self, canvas: Canvas[Any], after: Sequence[End], join: Join | None, *, fail_fast: bool
    ) -> End:
        """Add a node of a graph. Behind a single other one, without a *join*, it takes that one's result."""
        before: End | None = None
        if len(after) == 1 and join is None:
            [before] = after
        elif after:
            join = join or "all"
            nodes = tuple(node for end in after for node in end.nodes)
            before = End(nodes, _inputs_of(join), join=join, fail_fast=fail_fast)
        return self.single(self.add(canvas, before))

    def add_join(self, ends: Sequence[End]) -> End:
        """Add the end of several nodes."""
        return self._join(End(tuple(node for end in ends for node in end.nodes), "results"))

    def add(self, canvas: Canvas[Any], before: End | None) -> End:
        """Add *canvas* behind *before*, and return what it comes to."""
        stack: list[_Parts] = [self._start(canvas, before, _Given())]
        end: End | None = None
        while stack:
            try:
                part, incoming, given = next(stack[-1]) if end is None else stack[-1].send(end)
            except StopIteration as stop:
                end = stop.value
                stack.pop()
            else:
                stack.append(self._start(part, incoming, given))
                end = None
        assert end is not None
        return end

    def _start(self, canvas: Canvas[Any], before: End | None, given: _Given) -> _Parts:
        match canvas:
            case Chain():
                return self._chain(canvas, before, given)
            case Group():
                return self._group(canvas, before, given)
            case _:
                return self._one(canvas, before, given)

    def _one(self, canvas: Canvas[Any], before: End | None, given: _Given) -> _Parts:
        yield from ()
        return self._job(canvas, before, given)

    def _chain(self, chain: Chain[Any], before: End | None, given: _Given) -> _Parts:
        options, start = _divide(given, chain.options)
        end = before
        for number, part in enumerate(chain.parts):
            each = _Given(options, start if number == 0 else NO_OPTIONS, given.lists)
            end = self._job(part, end, each) if isinstance(part, Signature) else (yield part, end, each)
        assert end is not None
        return self._called_back(end, chain.callbacks, options)

    def _group(self, group: Group[Any], before: End | None, given: _Given) -> _Parts:
        options, start = _divide(given, group.options)
        if given.lists == MAX_LISTS:
            raise InvalidWorkflowError(f"groups can be in groups to a depth of {MAX_LISTS} at most")
        if before is not None and len(before.nodes) > 1:
            before = self._join(before)
        if group.stagger_by and before is not None:
            raise InvalidWorkflowError(
                "only a group at the start of a workflow can be staggered: delays count from the enqueue"
            )
        ends: list[End] = []
        for number, member in enumerate(group.members):
            first = start
            if group.stagger_by and number:
                first = _later(start, number * group.stagger_by)
            each = _Given(options, first, given.lists + 1)
            if isinstance(member, Signature):
                ends.append(self._job(member, before, each))
            else:
                ends.append((yield member, before, each))
        if not ends:
            # Nobody reads what is before it; but it is waited for as it was to be.
            end = End((), "") if before is None else replace(before, inputs="")
        else:
            nodes = tuple(self.single(end).nodes[0] for end in ends)
            end = End(nodes, _inputs_of(group.join), join=group.join, fail_fast=group.fail_fast)
        return self._called_back(end, group.callbacks, options)

    # Nodes

    def _job(self, call: Canvas[Any], before: End | None, given: _Given) -> End:
        assert isinstance(call, Signature)
        template = self._template(call, given)
        takes_inputs = before is not None and before.inputs != "" and not call.is_immutable
        if before is not None and not before.inputs and not call.is_immutable:
            document = self._reader.encode(call.clone([]))
        elif takes_inputs and before is not None:
            document = self._reader.encode_link(call, before.inputs)
        else:
            document = self._reader.encode(call)
        node = self._rows.add(NewJob(template, document), takes_inputs=takes_inputs)
        if before is not None:
            self._wait(node, before, is_join=False)
        return End((node,), "result")

    def _join(self, end: End) -> End:
        """Return *end* as one node: a join if it is none yet."""
        node = self._rows.add(None)
        self._wait(node, end, is_join=True)
        return End(
            (node,), "result" if end.inputs in {"results", ""} else f"{end.inputs} of join", is_join=True
        )

    def single(self, end: End) -> End:
        """Return *end* as one node that stands for it."""
        return self._join(end) if end.inputs in _LISTS else end

    def _wait(self, node: int, before: End, *, is_join: bool) -> None:
        """Have *node* wait for *before*."""
        nodes = before.nodes
        is_direct = before.inputs == "result" and not before.is_join and not is_join
        if not is_direct and (nodes or is_join):
            needs = None if before.join in {"all", "done"} else _needs(before.join, len(nodes))
            barrier = Barrier(
                _NOBODY,
                is_join,
                len(nodes),
                needs=needs,
                runs_anyway=before.join == "done",
                fail_fast=before.fail_fast,
            )
            self._rows.barriers.append((node, barrier))
        first = UNREAD if before.inputs == "" else 0
        for place, upstream in enumerate(nodes):
            self._rows.edges.append((upstream, node, first or place, is_direct))

    def _called_back(self, end: End, callbacks: Callbacks, options: Options) -> End:
        if not callbacks:
            return end
        end = self.single(end)
        [node] = end.nodes
        # A part may end where its last part does: what both call back is told apart by the number.
        for number, (when, call) in enumerate(callbacks, len(self._rows.callbacks)):
            assert isinstance(call, Signature)
            template = self._template(call, _Given(options))
            takes = not call.is_immutable
            document = self._reader.encode_link(call, "outcome") if takes else self._reader.encode(call)
            callback = Callback(_NOBODY, number, when, NewJob(template, document), takes_inputs=takes)
            self._rows.callbacks.append((node, callback))
        return end

    def _template(self, call: Signature[Any], given: _Given) -> Template:
        kind = (id(call.definition or call.task), id(call.options), id(given.options), id(given.start))
        known = self._templates.get(kind)
        if known is None:
            options = given.options | given.start | call.options
            for name in _REFUSED:
                if name in options:
                    raise InvalidOptionError(
                        f"task {call.task!r}: option {name!r} cannot be set in a workflow; remove it"
                    )
            template = self._reader.template(Signature(call.task, (), {}, options, call.definition))
            known = template, (call.definition, call.task, call.options, given)
            self._templates[kind] = known
        return known[0]

    # The whole

    def graph(self, end: End, name: str | None) -> Graph:
        """Return the rows of what was added, which comes to *end*."""
        rows = self._rows
        [root] = self.single(end).nodes
        workflow_id, *ids = new_ids(len(rows.jobs) + 1)
        return Graph(
            workflow_id,
            ids[root],
            name,
            [Node(*each) for each in zip(ids, rows.jobs, rows.takes, strict=True)],
            [_named(barrier, ids[node]) for node, barrier in rows.barriers],
            [Edge(ids[up], ids[down], position, direct) for up, down, position, direct in rows.edges],
            [
                Callback(ids[node], each.number, each.on, each.job, each.takes_inputs)
                for node, each in rows.callbacks
            ],
        )


def _named(barrier: Barrier, node: UUID) -> Barrier:
    return Barrier(
        node,
        barrier.is_join,
        barrier.total,
        needs=barrier.needs,
        runs_anyway=barrier.runs_anyway,
        fail_fast=barrier.fail_fast,
    )


def _inputs_of(join: Join) -> str:
    if join == "all":
        return "results"
    return "outcomes" if join == "done" else "succeeded"


def _needs(join: Join, total: int) -> int:
    return join.of(total) if isinstance(join, AtLeast) else 1


def _divide(given: _Given, own: Options) -> tuple[Options, Options]:
    """Return the options for all jobs of a part, and those for its first jobs, of outside and its own."""
    if not own:
        return given.options, given.start
    starts = {name: value for name, value in own.items() if name in _STARTS}
    others = {name: value for name, value in own.items() if name not in _STARTS}
    return given.options | Options(**others), Options(**{**given.start, **starts}) if starts else given.start


def _later(start: Options, seconds: float) -> Options:
    if "run_at" in start:
        raise InvalidOptionError("a group that is staggered cannot have 'run_at'; use 'delay'")
    return Options(**{**start, "delay": (start.get("delay") or 0.0) + seconds})
