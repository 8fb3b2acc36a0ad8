"""chain, group and chord."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, TypeVar, overload

from pgqueue.errors import InvalidWorkflowError
from pgqueue.tasks.canvas import Canvas, Chain, Group, Link, canvas_of, canvases_of
from pgqueue.tasks.joins import AtLeast, Join, check_join
from pgqueue.tasks.results import Outcome, Results

A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
D = TypeVar("D")
E = TypeVar("E")
F = TypeVar("F")
G = TypeVar("G")
H = TypeVar("H")
I = TypeVar("I")  # noqa: E741  # in line with the others


@overload
def chain(a: Canvas[A], /) -> Canvas[A]: ...
@overload
def chain(a: Canvas[A], b: Link[A, B], /) -> Canvas[B]: ...
@overload
def chain(a: Canvas[A], b: Link[A, B], c: Link[B, C], /) -> Canvas[C]: ...
@overload
def chain(a: Canvas[A], b: Link[A, B], c: Link[B, C], d: Link[C, D], /) -> Canvas[D]: ...
@overload
def chain(a: Canvas[A], b: Link[A, B], c: Link[B, C], d: Link[C, D], e: Link[D, E], /) -> Canvas[E]: ...
@overload
def chain(
    a: Canvas[A], b: Link[A, B], c: Link[B, C], d: Link[C, D], e: Link[D, E], f: Link[E, F], /
) -> Canvas[F]: ...
@overload
def chain(
    a: Canvas[A], b: Link[A, B], c: Link[B, C], d: Link[C, D], e: Link[D, E], f: Link[E, F], g: Link[F, G], /
) -> Canvas[G]: ...
@overload
def chain(
    a: Canvas[A],
    b: Link[A, B],
    c: Link[B, C],
    d: Link[C, D],
    e: Link[D, E],
    f: Link[E, F],
    g: Link[F, G],
    h: Link[G, H],
    /,
) -> Canvas[H]: ...
@overload
def chain(a: Link[I, A], b: Link[A, B], /) -> Link[I, B]: ...
@overload
def chain(a: Link[I, A], b: Link[A, B], c: Link[B, C], /) -> Link[I, C]: ...
@overload
def chain(a: Link[I, A], b: Link[A, B], c: Link[B, C], d: Link[C, D], /) -> Link[I, D]: ...
def chain(*parts: Any) -> Any:
    """Compose calls that run one after the other, each with the result of the one before as first argument.

    It comes to the last one's result. If one does not succeed, those after it are cancelled, and never run.
    Up to eight parts are typed; compose more with `|`. Raises InvalidWorkflowError.
    """
    if not parts:
        raise InvalidWorkflowError("a chain must have at least one call")
    return Chain(canvases_of(parts, "a part of a chain"))


@overload
def group(*members: Canvas[A]) -> Group[A]: ...
@overload
def group(*members: Link[A, B]) -> Link[A, list[B]]: ...
def group(*members: Any) -> Any:
    """Compose calls that run at the same time. It comes to the list of their results, in this order.

    Behind a call, each member takes that call's result. A group without members comes to [] at once. Raises
    InvalidWorkflowError.
    """
    return Group(canvases_of(members, "a member of a group"))


@overload
def group_of(members: Iterable[Canvas[A]]) -> Group[A]: ...
@overload
def group_of(members: Iterable[Link[A, B]]) -> Link[A, list[B]]: ...
def group_of(members: Any) -> Any:
    """Compose the calls of an iterable, which may be a generator, as `group` does."""
    return Group(canvases_of(members, "a member of a group"))


Whole = Literal["all", "first"] | AtLeast


@overload
def chord(
    header: Iterable[Canvas[A]], body: Link[list[A], B], *, join: Whole = "all", fail_fast: bool = False
) -> Canvas[B]: ...
@overload
def chord(
    header: Iterable[Canvas[A]], body: Link[Results[A], B], *, join: Whole = "all", fail_fast: bool = False
) -> Canvas[B]: ...
@overload
def chord(
    header: Iterable[Canvas[A]], body: Link[list[Outcome[A]], B], *, join: Literal["done"]
) -> Canvas[B]: ...
@overload
def chord(
    header: Iterable[Canvas[A]], body: Link[Results[Outcome[A]], B], *, join: Literal["done"]
) -> Canvas[B]: ...
@overload
def chord(
    header: Iterable[Link[I, A]], body: Link[list[A], B], *, join: Whole = "all", fail_fast: bool = False
) -> Link[I, B]: ...
@overload
def chord(
    header: Iterable[Link[I, A]], body: Link[list[Outcome[A]], B], *, join: Literal["done"]
) -> Link[I, B]: ...
def chord(header: Any, body: Any, *, join: Join = "all", fail_fast: bool = False) -> Any:
    """Compose calls that run at the same time, and *body*, which starts when they have ended.

    *body* takes the list of their results, in their order, or Results of them to read many by pages. *join*
    says when it starts: "all" members have succeeded (else it is cancelled, with an error that names every
    failed member); all have ended, however ("done": it takes their Outcomes); the "first" one has succeeded;
    or `at_least` so many have: then it takes the results of those that have succeeded when it starts.
    *fail_fast*: cancel the other members as soon as the body cannot start any more. Raises
    InvalidWorkflowError.
    """
    members = canvases_of(header, "a member of a chord's header")
    join = check_join(join, fail_fast=fail_fast)
    if join == "first" and not members:
        raise InvalidWorkflowError("join='first' needs a member, and the header is empty")
    if isinstance(join, AtLeast):
        join.of(len(members))
    return Chain((Group(members, join=join, fail_fast=fail_fast), canvas_of(body, "the body of a chord")))
