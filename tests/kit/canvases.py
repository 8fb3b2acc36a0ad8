"""Random workflows as users write them. No I/O.

A plan is a tree of calls that each have a label and a fate. `canvas` writes it as users do, and
`kit.foretelling` says what must become of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from hypothesis import strategies as st

from pgqueue.tasks.combining import chain, chord, group_of
from pgqueue.tasks.joins import at_least

ENDS = {
    "succeed": "succeeded",
    "succeed the second time": "succeeded",
    "fail": "failed",
    "fail twice": "failed",
    "be discarded": "failed",
    "be cancelled while it runs": "cancelled",
    "be cancelled": "cancelled",
    "expire": "expired",
    "be lost": "failed",
    "be purged": None,
}
"""What happens to a call that is started, and how it ends then. None: its record is gone."""
RUNS = {"succeed": 1, "succeed the second time": 2, "fail": 1, "fail twice": 2, "be discarded": 1}
"""How often its handler runs; that of one which is cancelled while it runs may not have begun."""
SET_ASIDE = frozenset({"be cancelled", "expire", "be lost", "be purged"})
"""These go to a queue that no worker serves: their fate is done to them there."""

LABELS = count(1)


@dataclass(frozen=True, eq=False)
class Call:
    """One call."""

    fate: str = "succeed"
    is_immutable: bool = False
    label: int = field(default_factory=lambda: next(LABELS))


@dataclass(frozen=True, eq=False)
class Chained:
    """Plans one after the other, and who is called back for the whole, by when."""

    parts: tuple[Plan, ...]
    callbacks: Mapping[str, Call] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Grouped:
    """Plans at the same time; `join`: "all", "done", "first", or how many."""

    members: tuple[Plan, ...]
    join: str | int = "all"
    fail_fast: bool = False
    callbacks: Mapping[str, Call] = field(default_factory=dict)


Plan = Call | Chained | Grouped


@dataclass(frozen=True, eq=False)
class Graphed:
    """Named nodes: each a plan, the places of those before it, and its join."""

    nodes: tuple[tuple[Plan, tuple[int, ...], str | None], ...]


# Drawing


@st.composite
def calls(draw: st.DrawFn) -> Call:
    """Draw a call; most succeed."""
    fates = ["succeed"] * 14 + [fate for fate in ENDS if fate != "succeed"]
    return Call(draw(st.sampled_from(fates)), draw(st.integers(0, 5)) == 5)


@st.composite
def plans(draw: st.DrawFn, depth: int) -> Plan:
    """Draw a plan that is nested so deep at most."""
    kind = draw(st.sampled_from(["call", "chain", "group", "chord", "chord"])) if depth else "call"
    if kind == "call":
        return draw(calls())
    callbacks = draw(st.lists(st.sampled_from(["success", "error", "complete"]), max_size=2, unique=True))
    called = {when: Call() for when in callbacks}
    if kind == "chain":
        return Chained(tuple(draw(st.lists(plans(depth - 1), min_size=1, max_size=3))), called)
    members = tuple(draw(st.lists(plans(depth - 1), max_size=4)))
    if kind == "group":
        return Grouped(members, callbacks=called)
    joins: list[str | int] = [
        "all",
        "all",
        "done",
        *(["first", *range(1, len(members) + 1)] if members else ()),
    ]
    join = draw(st.sampled_from(joins))
    header = Grouped(members, join, join == "all" and draw(st.integers(0, 3)) == 0)
    return Chained((header, draw(plans(depth - 1))), called)


@st.composite
def graphs(draw: st.DrawFn) -> Graphed:
    """Draw a graph of named nodes."""
    nodes: list[tuple[Plan, tuple[int, ...], str | None]] = []
    for number in range(draw(st.integers(2, 6))):
        after = tuple(draw(st.lists(st.integers(0, number - 1), max_size=3, unique=True))) if number else ()
        join = draw(st.sampled_from([None, None, "all", "done", "first"])) if after else None
        nodes.append((draw(plans(draw(st.integers(0, 1)))), after, join))
    return Graphed(tuple(nodes))


# Writing


@dataclass(frozen=True)
class Tasks:
    """The tasks that plans call: `node` for their calls, `called` for callbacks."""

    node: Any
    called: Any


def canvas(tasks: Tasks, plan: Plan) -> Any:
    """Return *plan* as users write it."""
    if isinstance(plan, Call):
        written = (tasks.node.si if plan.is_immutable else tasks.node.s)(label=plan.label, fate=plan.fate)
        if plan.fate in SET_ASIDE:
            written = written.set(queue=plan.fate)
        return written.set(tags=[str(plan.label)], max_retries=1, retry_intervals=[0])
    called = {
        f"on_{when}": tasks.called.s(label=call.label).set(tags=[str(call.label)])
        for when, call in plan.callbacks.items()
    }
    if isinstance(plan, Grouped):
        return group_of(canvas(tasks, member) for member in plan.members).set(**called)
    match plan.parts:
        case (Grouped(join=join, fail_fast=fail_fast) as header, body) if join != "all" or fail_fast:
            policy: Any = at_least(join) if isinstance(join, int) else join
            members = [canvas(tasks, member) for member in header.members]
            whole: Any = chord(members, canvas(tasks, body), join=policy, fail_fast=fail_fast)
        case parts:
            whole = chain(*(canvas(tasks, part) for part in parts))
    return whole.set(**called)


def graph(flow: Any, tasks: Tasks, plan: Graphed) -> None:
    """Add the nodes of *plan* to *flow*."""
    for number, (node, after, join) in enumerate(plan.nodes):
        flow.add(str(number), canvas(tasks, node), after=[str(each) for each in after], join=join)
