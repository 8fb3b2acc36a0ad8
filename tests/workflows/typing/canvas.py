"""What a type checker must accept, and refuse, of workflows. Checked, never run."""

from __future__ import annotations

from typing import Any, assert_type

from pgqueue import PgQueue, Signature
from pgqueue.tasks.canvas import Canvas, Group, Link, Whole
from pgqueue.tasks.combining import chain, chord, group, group_of
from pgqueue.tasks.joins import at_least
from pgqueue.tasks.results import Outcome, Results
from pgqueue.tasks.workflow_handle import WorkflowHandle

pgq = PgQueue("postgresql://localhost/app")


@pgq.task
async def extract_data(source_id: int) -> list[int]:
    return [source_id, source_id + 1]


@pgq.task
async def transform_data(data: list[int]) -> list[int]:
    return [2 * each for each in data]


@pgq.task
async def load_data(data: list[int], destination_id: str) -> str:
    return f"{destination_id}: {data}"


@pgq.task
async def send_email(to: str) -> None: ...


@pgq.task
async def send_sms(to: str) -> None: ...


@pgq.task
async def update_analytics(event: dict[str, int]) -> None: ...


@pgq.task
async def process_item(item_id: int) -> int:
    return item_id * item_id


@pgq.task
async def process_items(item_ids: list[int]) -> int:
    return sum(item_ids)


@pgq.task
async def add(x: int, y: int) -> int:
    return x + y


@pgq.task
async def notify(results: list[int], batch_id: str) -> str:
    return f"{batch_id}: {sum(results)} of {len(results)}"


@pgq.task
async def summarise(results: Results[int], batch_id: str) -> int:
    return 0


@pgq.task
async def review(outcomes: list[Outcome[int]]) -> int:
    return sum(outcome.succeeded for outcome in outcomes)


@pgq.task
async def alert(outcome: Outcome[object], channel: str) -> None: ...


@pgq.task
async def untyped(document: dict[str, Any]) -> dict[str, Any]:
    return document


@pgq.task
async def clean_up(batch_id: str) -> None: ...


squares = [process_item.s(number) for number in range(5)]


async def accepted() -> None:
    assert_type(extract_data.s(7), Signature[list[int]])
    assert_type(load_data.s("warehouse"), Link[list[int], str])
    assert_type(clean_up.si("batch"), Whole[None])
    assert_type(chain(extract_data.s(7), transform_data.s(), load_data.s("warehouse")), Canvas[str])
    assert_type(extract_data.s(7) | transform_data.s() | load_data.s("warehouse"), Canvas[str])
    assert_type(transform_data.s() | load_data.s("warehouse"), Link[list[int], str])
    assert_type(chain(extract_data.s(7), transform_data.s() | load_data.s("x")), Canvas[str])
    assert_type(group(send_email.s("a"), send_sms.s("1"), update_analytics.s({"clicks": 1})), Group[None])
    assert_type(chain(extract_data.s(7), clean_up.si("batch")), Canvas[None])
    assert_type(chain(clean_up.si("batch"), extract_data.si(7), transform_data.s()), Canvas[list[int]])
    anything: Canvas[int] = chain(untyped.s({}), untyped.s(), process_item.s())
    assert_type(anything, Canvas[int])
    assert_type(chord(squares, notify.s("batch")), Canvas[str])
    assert_type(chord((process_item.s(number) for number in range(5)), summarise.s("batch")), Canvas[int])
    assert_type(chord(squares, notify.s("batch"), join=at_least("80%"), fail_fast=True), Canvas[str])
    assert_type(chord(squares, review.s(), join="done"), Canvas[int])
    assert_type(chord(squares, clean_up.si("batch")), Canvas[None])
    assert_type(chain(extract_data.s(7), group(process_items.s(), transform_data.s())), Canvas[list[object]])
    assert_type(group(process_items.s(), process_items.s()), Link[list[int], list[int]])
    assert_type(group_of(squares).stagger(0.5), Group[int])
    assert_type(process_item.map([1, 2, 3]), Group[int])
    assert_type(add.starmap([(1, 2), (3, 4)]), Group[int])
    assert_type(process_items.chunks(range(100), 10), Group[int])
    assert_type(extract_data.s(7).set(priority=5), Signature[list[int]])
    workflow = chord(squares, notify.s("b")).set(
        priority=5, on_error=alert.s("#ops"), on_complete=[alert.s("a")]
    )
    assert_type(workflow, Canvas[str])
    assert_type(await workflow.enqueue(), WorkflowHandle[str])


async def refused() -> None:
    chain(extract_data.s(7), load_data.s(3))  # type: ignore[call-overload]  # a wrong argument of a link
    chain(extract_data.s("7"), transform_data.s())  # type: ignore[call-overload]  # ... of the first
    chain(process_item.s(1), transform_data.s())  # type: ignore[misc]  # int does not fit list[int]
    chord([send_email.s("a")], notify.s("b"))  # type: ignore[misc]  # nor list[None]
    await group(transform_data.s()).enqueue()  # type: ignore[attr-defined]  # a member lacks its argument
    chain(extract_data.s(7), clean_up.s("batch"))  # type: ignore[call-overload]  # .si() is meant
    extract_data.s(7) | load_data.s(3)  # type: ignore[call-overload]
    extract_data.s(7) | process_item.s()  # type: ignore[operator]  # a list is no item
    chord(squares, review.s())  # type: ignore[misc]  # outcomes are for join="done"
    chord(squares, notify.s("b"), join="some")  # type: ignore[call-overload]
    chain()  # type: ignore[call-overload]
    process_item.map(["1"])  # type: ignore[list-item]
    extract_data.s(7).set(prioritty=5)  # type: ignore[call-overload]
    squares[0].set(on_error=notify.s("b"))  # type: ignore[arg-type]  # a callback takes an outcome
