"""From a canvas to the rows of its workflow: jobs, the joins of groups, and who waits for whom. No I/O.

A large workflow is compiled in parts, so that the server can write one while the next one is compiled. A part
has the edges that lead to its nodes, from these or from earlier parts. Every node but the last has one
behind it, whether or not that is in the same part. Nothing here calls itself, so that a chain of chains can
be as deep as it is long.

A group is written as a join, which is a node without a job, only where something asks for its end as one:
another group behind it, a callback, the end of the workflow. A task behind a group waits for the members
themselves. So edges are linear in nodes: a group of 1,000 behind one of 1,000 is 2,000 edges and no million.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from pgqueue.enqueueing.gc_pause import FEW, collector_paused
from pgqueue.errors import InvalidOptionError, InvalidWorkflowError
from pgqueue.flow.limits import LimitBy
from pgqueue.options.levels import NO_OPTIONS, Options
from pgqueue.store import Graph, NewJob, Template
from pgqueue.tasks.canvas import MAX_NODES, Callbacks, Canvas, Chain, Group
from pgqueue.tasks.joins import Join
from pgqueue.tasks.signature import Signature
from pgqueue.workflows.rows import End, Rows

MAX_LISTS: Final = 100
"""Groups within groups: each is a list in a list, and parsers of JSON do not read endless depths."""
_STARTS: Final = ("delay", "run_at")
"""Options that a part hands down to its first jobs alone."""
_REFUSED: Final = ("id", "on_duplicate", "depends_on", "allow_failure")
_LISTS: Final = frozenset({"results", "succeeded", "outcomes", ""})
"""What is taken from several nodes, or from none."""


class ReadCall(Protocol):
    """Resolves and encodes a call: `encode` with a first argument, or, as a link, without it."""

    def template(self, call: Signature[Any]) -> Template:
        """Return the job of a call without its arguments. Raises InvalidOptionError."""

    def limits(self, call: Signature[Any]) -> tuple[LimitBy, ...]:
        """Return what the job of a call waits for until it may run."""

    def gates(
        self, limits: Sequence[LimitBy], call: Signature[Any], *, is_link: bool
    ) -> tuple[tuple[str, str], ...]:
        """Return the keys of a call in its limits, of one that lacks its first argument if it *is_link*."""

    def encode(self, call: Signature[Any]) -> str:
        """Return the arguments of a whole call as they are stored. Raises InvalidArgumentsError."""

    def encode_link(self, call: Signature[Any], inputs: str) -> str:
        """Return those of a call that lacks the first argument, which it takes from *inputs*."""


_Inner = tuple["Canvas[Any]", "End | None", "_Given"]
_Steps = Generator[_Inner | None, "End | None", "End"]
"""Yields the parts of a part, each to be given what it comes to; and None, where there may be a pause."""


@dataclass(frozen=True, slots=True)
class _Given:
    """What a part is given by those around it: options for all and for its first jobs; `lists`: its depth."""

    options: Options = NO_OPTIONS
    start: Options = NO_OPTIONS
    lists: int = 0


@collector_paused(FEW)  # how large it is shows only as it is read
def compile_canvas(canvas: Canvas[Any], reader: ReadCall) -> Graph:
    """Return the rows of *canvas*.

    Raises InvalidWorkflowError, InvalidOptionError, InvalidArgumentsError, PayloadTooLargeError, and what the
    codec raises.
    """
    [graph] = compile_parts(canvas, reader, size=MAX_NODES + 1)
    return graph


def compile_parts(canvas: Canvas[Any], reader: ReadCall, size: int) -> Iterator[Graph]:
    """Return the rows of *canvas* in parts of about *size* nodes, as they are asked for.

    The last one has the root. Raises as compile_canvas does, at any part.
    """
    compiler = Compiler(reader, None, size)
    end = yield from compiler.add(canvas, None)
    yield compiler.graph(end)


class Compiler:
    """Compiles one workflow, in parts of about *size* nodes."""

    def __init__(self, reader: ReadCall, name: str | None, size: int = MAX_NODES + 1) -> None:
        self._reader = reader
        self._size = size
        self._rows = Rows(name)
        self._templates: dict[
            tuple[int, int, int, int], tuple[tuple[Template, tuple[LimitBy, ...]], object]
        ] = {}
        """By the task and the options, whose objects are kept, so that no other ones take their ids."""

    def add_node(
        self, canvas: Canvas[Any], after: Sequence[End], join: Join | None, *, fail_fast: bool
    ) -> Generator[Graph, None, End]:
        """Add a node of a graph. Behind a single other one, without a *join*, it takes that one's result."""
        before: End | None = None
        if len(after) == 1 and join is None:
            [before] = after
        elif after:
            join = join or "all"
            nodes = tuple(node for end in after for node in end.nodes)
            before = End(nodes, _inputs_of(join), join=join, fail_fast=fail_fast)
        return self.single((yield from self.add(canvas, before)))

    def add_join(self, ends: Sequence[End]) -> End:
        """Add the end of several nodes."""
        return self._join(End(tuple(node for end in ends for node in end.nodes), "results"))

    def add(self, canvas: Canvas[Any], before: End | None) -> Generator[Graph, None, End]:
        """Add *canvas* behind *before*, and return what it comes to. Yields the parts that get full."""
        stack = [self._start(canvas, before, _Given())]
        end: End | None = None
        while stack:
            try:
                inner = next(stack[-1]) if end is None else stack[-1].send(end)
            except StopIteration as stop:
                end = stop.value
                stack.pop()
            else:
                end = None
                if inner is None:
                    yield self._rows.take(None)
                else:
                    stack.append(self._start(*inner))
        assert end is not None
        return end

    def _start(self, canvas: Canvas[Any], before: End | None, given: _Given) -> _Steps:
        match canvas:
            case Chain():
                return self._chain(canvas, before, given)
            case Group():
                return self._group(canvas, before, given)
            case _:
                return self._one(canvas, before, given)

    def _one(self, canvas: Canvas[Any], before: End | None, given: _Given) -> _Steps:
        yield from ()
        assert isinstance(canvas, Signature)
        return End((self._job(canvas, before, given),), "result")

    def _chain(self, chain: Chain[Any], before: End | None, given: _Given) -> _Steps:
        options, start = _divide(given, chain.options)
        end, each = before, _Given(options, start, given.lists)
        for part in chain.parts:
            if len(self._rows) >= self._size:
                yield None
            if isinstance(part, Signature):
                end = End((self._job(part, end, each),), "result")
            else:
                end = yield part, end, each
            if each.start is not NO_OPTIONS:
                each = _Given(options, NO_OPTIONS, given.lists)
        assert end is not None
        return self._called_back(end, chain.callbacks, options)

    def _group(self, group: Group[Any], before: End | None, given: _Given) -> _Steps:
        options, start = _divide(given, group.options)
        if given.lists == MAX_LISTS:
            raise InvalidWorkflowError(f"groups can be in groups to a depth of {MAX_LISTS} at most")
        if before is not None and len(before.nodes) > 1:
            before = self._join(before)
        if group.stagger_by and before is not None:
            raise InvalidWorkflowError(
                "only a group at the start of a workflow can be staggered: delays count from the enqueue"
            )
        nodes: list[int] = []
        each = _Given(options, start, given.lists + 1)
        for number, member in enumerate(group.members):
            if len(self._rows) >= self._size:
                yield None
            if group.stagger_by and number:
                each = _Given(options, _later(start, number * group.stagger_by), given.lists + 1)
            if isinstance(member, Signature):
                nodes.append(self._job(member, before, each))
            else:
                end = yield member, before, each
                assert end is not None
                nodes += self.single(end).nodes
        if nodes:
            end = End(tuple(nodes), _inputs_of(group.join), join=group.join, fail_fast=group.fail_fast)
        else:
            # Nobody reads what is before it; but it is waited for as it was to be.
            end = End((), "") if before is None else before._replace(inputs="")
        return self._called_back(end, group.callbacks, options)

    # Nodes

    def _job(self, call: Signature[Any], before: End | None, given: _Given) -> int:
        template, limits = self._template(call, given)
        if before is None:
            gates = self._reader.gates(limits, call, is_link=False) if limits else ()
            return self._rows.add(NewJob(template, self._reader.encode(call), gates))
        takes_inputs = before.inputs != "" and not call.is_immutable
        whole = call if takes_inputs or call.is_immutable else call.clone([])
        if takes_inputs:
            document = self._reader.encode_link(call, before.inputs)
        else:
            document = self._reader.encode(whole)
        gates = self._reader.gates(limits, whole, is_link=takes_inputs) if limits else ()
        node = self._rows.add(NewJob(template, document, gates), takes_inputs=takes_inputs)
        self._rows.wait(node, before, is_join=False)
        return node

    def _join(self, end: End) -> End:
        """Return *end* as one node: a join if it is none yet."""
        node = self._rows.add(None)
        self._rows.wait(node, end, is_join=True)
        return End(
            (node,), "result" if end.inputs in {"results", ""} else f"{end.inputs} of join", is_join=True
        )

    def single(self, end: End) -> End:
        """Return *end* as one node that stands for it."""
        return self._join(end) if end.inputs in _LISTS else end

    def _called_back(self, end: End, callbacks: Callbacks, options: Options) -> End:
        if not callbacks:
            return end
        end = self.single(end)
        [node] = end.nodes
        for when, call in callbacks:
            assert isinstance(call, Signature)
            template, limits = self._template(call, _Given(options))
            if limits:
                raise InvalidOptionError(
                    f"task {call.task!r}: a callback cannot have limits; have it enqueue a job that has them"
                )
            takes = not call.is_immutable
            document = self._reader.encode_link(call, "outcome") if takes else self._reader.encode(call)
            self._rows.call_back(node, when, NewJob(template, document), takes_inputs=takes)
        return end

    def _template(self, call: Signature[Any], given: _Given) -> tuple[Template, tuple[LimitBy, ...]]:
        kind = (id(call.definition or call.task), id(call.options), id(given.options), id(given.start))
        known = self._templates.get(kind)
        if known is None:
            options = given.options | given.start | call.options
            for name in _REFUSED:
                if name in options:
                    raise InvalidOptionError(
                        f"task {call.task!r}: option {name!r} cannot be set in a workflow; remove it"
                    )
            whole: Signature[Any] = Signature(call.task, (), {}, options, call.definition)
            known = (
                (self._reader.template(whole), self._reader.limits(whole)),
                (call.definition, call.task, call.options, given),
            )
            self._templates[kind] = known
        return known[0]

    def graph(self, end: End) -> Graph:
        """Return the last part: the rows that were added, which come to *end*, and are in no other part."""
        [root] = self.single(end).nodes
        return self._rows.take(root)


def _inputs_of(join: Join) -> str:
    if join == "all":
        return "results"
    return "outcomes" if join == "done" else "succeeded"


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
