"""A canvas becomes rows: whatever is composed, each node waits for what it has to, and for nothing twice."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from itertools import count
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit.inside import compiled, compiled_in_parts

from pgqueue import InvalidArgumentsError, InvalidOptionError, PayloadTooLargeError, PgQueue
from pgqueue.errors import InvalidWorkflowError
from pgqueue.options.checks import FROM_ARGUMENTS
from pgqueue.store import Graph
from pgqueue.tasks import combining
from pgqueue.tasks.canvas import LONG, MAX_NODES, Canvas, Chain
from pgqueue.tasks.joins import at_least

DSN = "postgresql://localhost/nowhere"
pgq = PgQueue(DSN, payload_limit=1000)


async def _node(first: Any = None, *, n: int = 0) -> Any:
    return [n, first]


async def _takes_none() -> None: ...


async def _total(*numbers: int) -> int:
    return sum(numbers)


async def _item(number: int) -> int:
    return number


async def _review(results: list[int], batch: str = "") -> None: ...


# Untyped: a type checker refuses half of what is written here (typing/canvas.py).
node: Any = pgq.task(name="node")(_node)
takes_none: Any = pgq.task(name="takes_none")(_takes_none)
total: Any = pgq.task(name="total")(_total)
item: Any = pgq.task(name="item")(_item)
once: Any = pgq.task(name="once", idempotency_key=FROM_ARGUMENTS)(_item)
review: Any = pgq.task(name="review")(_review)
foreign: Any = PgQueue(DSN).task(name="foreign")(_node)
untyped: Any = combining
chain, chord, group, group_of = untyped.chain, untyped.chord, untyped.group, untyped.group_of

# What a canvas comes to, by the words of the documentation: told while it is built.

Meaning = Callable[[tuple[Any, ...]], Any]
"""From what is before it (nothing: it is at the start) to what it comes to."""
Meant = tuple[Callable[[Iterator[int]], tuple[Canvas[Any], Meaning]], int]


def call(numbers: Iterator[int], *, is_immutable: bool) -> tuple[Canvas[Any], Meaning]:
    """Return a call, and what it comes to."""
    n = next(numbers)
    made: Any = node.si(n=n) if is_immutable else node.s(n=n)
    return made, lambda before: [n, None if is_immutable or not before else before[0]]


def chained(numbers: Iterator[int], *, parts: list[Any], called_back: bool) -> tuple[Canvas[Any], Meaning]:
    """Return a chain, and what it comes to."""
    made = [part(numbers) for part in parts]

    def meaning(before: tuple[Any, ...]) -> Any:
        for _, each in made:
            before = (each(before),)
        return before[0]

    canvases: Any = [canvas for canvas, _ in made]
    made_of = chain(*canvases)
    return made_of.set(on_complete=node.si()) if called_back else made_of, meaning


def grouped(numbers: Iterator[int], *, parts: list[Any]) -> tuple[Canvas[Any], Meaning]:
    """Return a group, and what it comes to."""
    made = [part(numbers) for part in parts]
    return group_of(canvas for canvas, _ in made), lambda before: [each(before) for _, each in made]


calls = st.booleans().map(lambda flag: partial(call, is_immutable=flag))
canvases = st.recursive(
    calls,
    lambda inner: st.one_of(
        st.builds(
            lambda parts, called_back: partial(chained, parts=parts, called_back=called_back),
            st.lists(inner, min_size=1, max_size=4),
            st.booleans(),
        ),
        st.lists(inner, max_size=4).map(lambda parts: partial(grouped, parts=parts)),
    ),
    max_leaves=25,
)


def run(graph: Graph) -> Any:
    """Return what the rows come to, if each job returns [its n, its first argument]."""
    before: dict[UUID, list[tuple[int, UUID]]] = {}
    for edge in graph.edges:
        before.setdefault(edge.downstream, []).append((edge.position, edge.upstream))
    values: dict[UUID, Any] = {}
    for each in graph.nodes:
        given = [values[upstream] for position, upstream in sorted(before.get(each.id, [])) if position >= 0]
        if each.job is None:
            values[each.id] = given
            continue
        document = json.loads(each.job.document)
        inputs = document.get("<")
        assert each.takes_inputs == (inputs is not None)
        if inputs == "result":
            [document["first"]] = given
        elif inputs is not None:
            assert inputs == "results"
            document["first"] = given
        values[each.id] = [document["n"], document.get("first")]
    assert graph.root is not None
    return values[graph.root]


def documents(graph: Graph) -> list[Any]:
    """Return the stored arguments of the jobs, in order."""
    return [json.loads(each.job.document) for each in graph.nodes if each.job is not None]


def check_rows(graph: Graph) -> None:
    """Check what holds of any graph."""
    ids = [each.id for each in graph.nodes]
    assert [graph.workflow_id, *ids] == sorted({graph.workflow_id, *ids})
    pairs = [(edge.upstream, edge.downstream) for edge in graph.edges]
    assert len(pairs) == len(set(pairs))
    assert all(upstream < downstream for upstream, downstream in pairs)
    totals = Counter(edge.downstream for edge in graph.edges)
    assert {each.id for each in graph.nodes} - {upstream for upstream, _ in pairs} == {graph.root}
    jobs = {each.id for each in graph.nodes if each.job is not None}
    barriers = {barrier.id: barrier for barrier in graph.barriers}
    assert len(barriers) == len(graph.barriers)
    for each in graph.nodes:
        into = [edge for edge in graph.edges if edge.downstream == each.id]
        barrier = barriers.get(each.id)
        assert (barrier is None) == (each.job is not None and all(edge.direct for edge in into))
        if barrier is not None:
            assert (barrier.total, barrier.is_join) == (totals[each.id], each.job is None)
        if any(edge.direct for edge in into):
            assert len(into) == 1
            assert into[0].upstream in jobs
    assert len(graph.edges) <= 2 * len(graph.nodes)


def whole(parts: list[Graph]) -> Graph:
    """Return the workflow that *parts* are, and check that each can be written once those before it are."""
    written: set[UUID] = set()
    for part in parts:
        own = {each.id for each in part.nodes}
        written |= own
        assert {edge.downstream for edge in part.edges} <= own
        assert {edge.upstream for edge in part.edges} <= written
        assert {each.id for each in part.barriers} | {each.node_id for each in part.callbacks} <= own
        assert not part.waits_for_others
    last = parts[-1]
    assert [part.root for part in parts] == [None] * (len(parts) - 1) + [last.nodes[-1].id]
    return replace(
        last,
        nodes=[each for part in parts for each in part.nodes],
        barriers=[each for part in parts for each in part.barriers],
        edges=[each for part in parts for each in part.edges],
        callbacks=[each for part in parts for each in part.callbacks],
    )


@pytest.mark.contract("P7.13", "P7.14", "P7.6", "P7.8")
@given(canvases, st.integers(1, 5))
def test_any_nesting_comes_to_what_it_says_in_rows_that_are_linear_in_its_calls(
    build: Any, size: int
) -> None:
    numbers = count()
    canvas, meaning = build(numbers)
    graph = whole(compiled_in_parts(pgq, canvas, size))

    check_rows(graph)
    assert run(graph) == meaning(())
    assert sum(each.job is not None for each in graph.nodes) == next(numbers)


@pytest.mark.contract("P7.14")
def test_a_group_after_a_group_goes_through_one_node() -> None:
    graph = compiled(pgq, chain(node.map(range(100)), group_of(node.s() for _ in range(100))))

    assert (len(graph.nodes), len(graph.edges)) == (202, 300)


@pytest.mark.contract("P7.12", "P7.13")
def test_the_body_of_a_chord_is_one_job_behind_its_members_themselves() -> None:
    graph = compiled(pgq, chord(item.map(range(10_000)).members, review.s("b")))

    assert (len(graph.nodes), len(graph.edges), len(graph.barriers)) == (10_001, 10_000, 1)
    assert documents(graph)[-1] == {"<": "results", "batch": "b"}


@pytest.mark.contract("P7.10")
@pytest.mark.parametrize(
    ("join", "needs", "runs_anyway", "inputs"),
    [
        ("all", None, False, "results"),
        ("done", None, True, "outcomes"),
        ("first", 1, False, "succeeded"),
        (at_least(8), 8, False, "succeeded"),
        (at_least("75%"), 8, False, "succeeded"),
        (at_least("100%"), 10, False, "succeeded"),
    ],
)
@pytest.mark.parametrize("is_group", [False, True])
def test_a_join_says_how_many_members_the_body_needs_and_what_it_takes(
    join: Any, needs: int | None, runs_anyway: bool, inputs: str, is_group: bool
) -> None:
    body: Any = group(node.s(), node.s()) if is_group else node.s()
    graph = compiled(pgq, chord(item.map(range(10)).members, body, join=join))

    barrier = graph.barriers[0]
    assert (barrier.needs, barrier.runs_anyway, barrier.is_join) == (needs, runs_anyway, is_group)
    taken = [json.loads(each.job.document).get("<") for each in graph.nodes[10:] if each.job is not None]
    through = {"results": "result"}.get(inputs, f"{inputs} of join") if is_group else inputs
    assert taken == [through] * (2 if is_group else 1)


@pytest.mark.contract("P7.1")
def test_arguments_come_after_the_result_and_settings_merge_the_newer_one_winning() -> None:
    cloned = node.s(n=1).clone(7, n=2)
    assert (cloned.args, cloned.kwargs) == ((7,), {"n": 2})
    signature = node.options(priority=1, tags=["a"]).s(n=1).set(priority=2).set(queue="mail")
    inherited = chain(signature, node.s(n=2)).set(priority=3, queue="other", on_error=node.s(n=3))
    graph = compiled(pgq, inherited.set(tags=["b"]))

    lanes = [each.job.template.lane for each in graph.nodes if each.job is not None]
    assert lanes == [("mail", 2), ("other", 3)]
    assert [each.job.template.tags for each in graph.nodes if each.job is not None] == ['["a"]', '["b"]']
    [callback] = graph.callbacks
    assert (callback.on, callback.node_id, callback.job.template.lane) == ("error", graph.root, ("other", 3))
    assert json.loads(callback.job.document) == {"<": "outcome", "n": 3}
    assert documents(compiled(pgq, chain(item.s(1), total.s(2, 3))))[1] == {
        "<": "result",
        "numbers": [2, 3],
    }


@pytest.mark.contract("P7.15")
def test_a_group_with_callbacks_calls_them_once_for_the_whole() -> None:
    called_back = group(node.s(), node.s()).set(on_complete=[node.si(n=1), node.s(n=2)], on_success=node.s())
    graph = compiled(pgq, called_back)

    assert graph.nodes[-1].job is None
    assert [(each.node_id, each.on, each.takes_inputs) for each in graph.callbacks] == [
        (graph.root, "success", True),
        (graph.root, "complete", False),
        (graph.root, "complete", True),
    ]


@pytest.mark.contract("P7.18")
def test_items_become_members_one_by_one_by_pairs_or_by_chunks() -> None:
    assert documents(compiled(pgq, item.map([1, 2]))) == [{"number": 1}, {"number": 2}]
    assert documents(compiled(pgq, total.starmap([(1, 2), (3,)]))) == [{"numbers": [1, 2]}, {"numbers": [3]}]
    assert documents(compiled(pgq, review.chunks(range(5), 2))) == [
        {"results": [0, 1]},
        {"results": [2, 3]},
        {"results": [4]},
    ]
    staggered = compiled(pgq, item.map(range(3)).stagger(0.5).set(delay=2))
    assert [each.job.template.delay for each in staggered.nodes if each.job is not None] == [2, 2.5, 3]


def test_a_delay_of_the_whole_is_one_of_its_first_jobs() -> None:
    graph = compiled(pgq, chain(group(node.s(), node.s() | node.s()), node.s()).set(delay=60))

    delays = [each.job.template.delay for each in graph.nodes if each.job is not None]
    assert delays == [60, 60, None, None]


@pytest.mark.parametrize("how", ["pipes", "nested chains", "nested groups"])
def test_a_depth_of_a_thousand_is_no_matter_for_chains_and_refused_for_lists(how: str) -> None:
    canvas: Canvas[Any] = node.s()
    for _ in range(1000):
        match how:
            case "pipes":
                canvas = canvas | node.s()
            case "nested chains":
                canvas = chain(canvas, node.s()).set(priority=1)
            case _:
                canvas = group(canvas)
    if how == "nested groups":
        with pytest.raises(InvalidWorkflowError, match="to a depth of 100 at most"):
            compiled(pgq, canvas)
        return
    graph = compiled(pgq, canvas)
    assert (len(graph.nodes), len(graph.edges)) == (1001, 1000)
    if how == "pipes":
        # No link has copied all those before it.
        assert repr(canvas) == "<Chain of 1001>"
        assert isinstance(canvas, Chain)
        assert len(canvas.parts) <= LONG


def test_the_same_call_twice_is_two_jobs() -> None:
    call = node.s(n=1)

    assert len(compiled(pgq, chain(group(call, call), call)).nodes) == 3


# Bad input: a typed error at the call


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (chain, InvalidWorkflowError, "at least one call"),
        (lambda: chain(node.s(), 5), InvalidWorkflowError, "must be a call such as"),
        (lambda: group(node), InvalidWorkflowError, "must be a call such as"),
        (lambda: group_of(5), InvalidWorkflowError, "several values"),
        (lambda: chord([], node.s(), join="first"), InvalidWorkflowError, "the header is empty"),
        (lambda: chord([node.s()], node.s(), join=at_least(2)), InvalidWorkflowError, "only 1 members"),
        (lambda: chord([node.s()], node.s(), join="most"), InvalidWorkflowError, "join must be"),
        (lambda: chord([node.s()], node.s(), fail_fast=1), InvalidWorkflowError, "True or False"),
        (lambda: chord([node.s()], node.s(), join="done", fail_fast=True), InvalidWorkflowError, "only one"),
        (lambda: at_least(0), InvalidWorkflowError, "from 1 on"),
        (lambda: at_least("0%"), InvalidWorkflowError, "from 1 on"),
        (lambda: at_least("101%"), InvalidWorkflowError, "from 1 on"),
        (lambda: at_least("nan%"), InvalidWorkflowError, "from 1 on"),
        (lambda: chain(item.s("x"), node.s()), InvalidArgumentsError, "number"),
        (lambda: chain(node.s(), item.s(1)), InvalidArgumentsError, "takes 0 positional"),
        (lambda: chain(node.s(), item.s(number=1)), InvalidArgumentsError, "number"),
        (lambda: chain(node.s(), takes_none.s()), InvalidArgumentsError, r"use \.si"),
        (lambda: group(item.s()), InvalidArgumentsError, "number"),
        (lambda: chain(node.s(), node.s(n=object())), InvalidArgumentsError, "n"),
        (lambda: chain(node.s(), node.s("x" * 1000)), InvalidArgumentsError, "takes 0"),
        (lambda: chain(node.s("x" * 1000), node.s()), PayloadTooLargeError, "limit is 1,000"),
        (lambda: chain(node.s(), foreign.s()), InvalidWorkflowError, "another PgQueue"),
        (lambda: chain(node.s(), once.s()), InvalidOptionError, "idempotency key"),
        (lambda: group(node.s().set(id=UUID(int=1))), InvalidOptionError, "'id' cannot be set"),
        (lambda: group(node.s()).set(on_duplicate="raise"), InvalidOptionError, "'on_duplicate' cannot"),
        (lambda: group(node.s()).set(color="red"), InvalidOptionError, "unknown option 'color'"),
        (lambda: node.s().set(on_error=5), InvalidWorkflowError, "must be a call such as"),
        (lambda: node.s().set(on_error=group(node.s())), InvalidWorkflowError, "must be a single call"),
        (lambda: node.map(range(3)).stagger(-1), InvalidOptionError, "from 0 to"),
        (lambda: chain(node.s(), node.map([1]).stagger(1)), InvalidWorkflowError, "can be staggered"),
        (lambda: review.chunks([1], 0), InvalidWorkflowError, "size must be"),
        (lambda: node.map(5), InvalidWorkflowError, "several values"),
        (lambda: node.starmap([5]), InvalidWorkflowError, "a tuple of arguments, got 5"),
        (lambda: node.starmap(["ab"]), InvalidWorkflowError, "a tuple of arguments, got 'ab'"),
        (lambda: node.map(range(MAX_NODES + 1)), InvalidWorkflowError, "at most 100,000"),
        (lambda: group(*[node.map(range(MAX_NODES // 2))] * 2), InvalidWorkflowError, "at most 100,000"),
    ],
)
def test_what_cannot_be_a_workflow_is_refused_with_a_typed_error(
    make: Callable[[], Canvas[Any]], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        compiled(pgq, make())


def test_a_call_of_a_task_with_idempotency_keys_can_do_without() -> None:
    graph = compiled(pgq, chain(node.s(), once.s().set(idempotency_key=None)))

    assert len(graph.nodes) == 2
