"""What must become of each call of a workflow, as the documentation says it: in plain Python. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from typing import Any

from kit.canvases import ENDS, RUNS, Call, Chained, Graphed, Grouped, Plan

Ended = Collection[int]
Reached = Callable[[Ended], bool]


@dataclass(frozen=True, slots=True)
class Several:
    """The results of as many members as were there, in their order: at least so many."""

    least: int
    results: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Told:
    """The outcome of something."""

    succeeded: bool
    result: Any = None


@dataclass(frozen=True, slots=True)
class End:
    """What a plan comes to: whether it succeeds, with what, and when at the earliest.

    `names`: whom the error of what waits for it, with others, must name; `blamed`: that of a link behind it.
    `is_gone`: its record is removed by hand.
    """

    succeeds: bool
    result: Any
    reached: Reached
    names: frozenset[int] = frozenset()
    blamed: frozenset[int] = frozenset()
    is_gone: bool = False


@dataclass(slots=True)
class Fate:
    """What must become of one call."""

    call: Call
    status: str | None
    runs: int
    result: Any = None
    """What it is given."""
    reached: Reached = lambda _: True
    names: frozenset[int] = frozenset()
    is_spoilt: bool = False
    """Whether it is cancelled because of what is before it."""


START = End(succeeds=True, result=None, reached=lambda _: True)


@dataclass(slots=True)
class Model:
    """Says what must become of each call, by its label."""

    fates: dict[int, Fate] = field(default_factory=dict)
    loose: set[int] = field(default_factory=set)
    """These may have been cancelled, because others failed: they end, and run once at most."""

    def read(self, plan: Plan, before: End = START) -> End:
        """Return what *plan* comes to behind *before*."""
        if isinstance(plan, Call):
            return self._call(plan, before)
        known = set(self.fates)
        if isinstance(plan, Chained):
            end = before
            for part in plan.parts:
                end = self.read(part, end)
        else:
            end = self._group(plan, before)
            if plan.fail_fast and not end.succeeds:
                self.loose |= self.fates.keys() - known
        for when, call in plan.callbacks.items():
            is_called = when == "complete" or (when == "success") == end.succeeds
            told = Told(end.succeeds, end.result if end.succeeds else None)
            fate = Fate(call, "succeeded" if is_called else None, int(is_called), told, end.reached)
            self.fates[call.label] = fate
            if end.is_gone:
                # Callbacks are made for what has a record.
                self.loose.add(call.label)
        return end

    def read_graph(self, plan: Graphed) -> End:
        """Return what the graph comes to."""
        ends: list[End] = []
        for node, after, join in plan.nodes:
            before = START
            if len(after) == 1 and join is None:
                before = ends[after[0]]
            elif after:
                before = joined([ends[each] for each in after], join or "all")
            ends.append(self.read(node, before))
        inner = {each for _, after, _ in plan.nodes for each in after}
        last = [end for place, end in enumerate(ends) if place not in inner]
        return last[0] if len(last) == 1 else joined(last, "all")

    def _call(self, call: Call, before: End) -> End:
        label, status = call.label, ENDS[call.fate]
        if not before.succeeds:
            self.fates[label] = Fate(
                call, "cancelled", 0, None, before.reached, before.blamed, is_spoilt=True
            )
            return End(
                succeeds=False,
                result=None,
                reached=before.reached,
                names=frozenset([label]),
                blamed=before.blamed,
            )
        given = None if call.is_immutable else before.result
        self.fates[label] = Fate(call, status, RUNS.get(call.fate, 0), given, before.reached)
        names = frozenset() if status is None else frozenset([label])
        return End(
            status == "succeeded", label, lambda ended: label in ended, names, names, is_gone=status is None
        )

    def _group(self, group: Grouped, before: End) -> End:
        if not group.members:
            return replace(before, result=[], blamed=before.names)
        ends = [self.read(member, before) for member in group.members]
        end = joined(ends, group.join)
        if group.fail_fast and not end.succeeds:
            bad = [each for each in ends if not each.succeeds]
            return replace(end, reached=some_of(bad, 1), names=frozenset(), blamed=frozenset())
        return end


def joined(ends: list[End], join: str | int) -> End:
    """Return what several ends come to."""
    good, bad = [end for end in ends if end.succeeds], [end for end in ends if not end.succeeds]
    names = frozenset(name for end in bad for name in end.names)
    if join == "done":
        outcomes = [Told(end.succeeds, end.result if end.succeeds else None) for end in ends]
        return End(succeeds=True, result=outcomes, reached=all_of(ends))
    if join == "all":
        return End(not bad, [end.result for end in good], all_of(ends), names, names)
    least = join if isinstance(join, int) else 1
    if len(good) >= least:
        results = Several(least, tuple(end.result for end in good))
        return End(succeeds=True, result=results, reached=some_of(good, least))
    # It is given up as soon as too few are left, and names those that have failed by then.
    return End(succeeds=False, result=None, reached=some_of(bad, len(ends) - least + 1))


def all_of(ends: list[End]) -> Reached:
    """Return whether all have been reached."""
    return lambda ended: all(end.reached(ended) for end in ends)


def some_of(ends: list[End], least: int) -> Reached:
    """Return whether so many have been reached."""
    return lambda ended: sum(end.reached(ended) for end in ends) >= least


def fits(expected: Any, given: Any) -> bool:
    """Return whether a result is what it must be."""
    match expected:
        case Told():
            if given["status"] != "succeeded":
                return not expected.succeeded
            return expected.succeeded and fits(expected.result, given["result"])
        case Several():
            rest = iter(given)
            results = list(expected.results)
            taken = 0
            for value in rest:
                while results and not fits(results[0], value):
                    results.pop(0)
                if not results:
                    return False
                results.pop(0)
                taken += 1
            return taken >= expected.least
        case list():
            return isinstance(given, list) and len(expected) == len(given) and all(map(fits, expected, given))
        case _:
            return bool(expected == given)
