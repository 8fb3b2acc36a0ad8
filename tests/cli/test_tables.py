"""Tables in windows of any width: every id and every name is whole, and rows stay apart."""

from __future__ import annotations

import re
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kit.command_line import Cli
from kit.waiting import eventually, is_over
from rich.cells import cell_len

from pgqueue import JobContext, PgQueue, group
from pgqueue.cli.one_line import middle
from pgqueue.cli.pieces import end, pieces, sized
from pgqueue.cli.tables import Table, wrapped

ID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
LISTS: Final = {
    "jobs": ("task", "queue"),
    "queues list": ("queue",),
    "workers --jobs": ("worker",),
    "dead list": ("task", "queue"),
    "dead groups": ("task",),
    "dead show {dead}": (),
    "limits list": ("limit",),
    "limits show {limit}": (),
    "limits limiters": (),
    "ordered list": ("task",),
    "ordered stopped": ("task", "line"),
    "schedules list": ("schedule", "counting", "queue"),
    "schedules show {schedule}": (),
    "workflow list": (),
    "workflow show {workflow}": (),
    "top --once": ("queue", "worker"),
}
"""Commands that list something, and the names that tell its rows apart, beside ids."""
WIDTHS: Final = (40, 80, 200, None)


def long(what: str, number: int) -> str:
    """A name of 120 letters, wide ones among them, that differs from others in its middle."""
    return f"{what}-{'請求書' * 8}{'x' * (60 - len(what))}{number}{'-of-the-region' * 3}"[:120]


@pytest.fixture
async def scene(pgq: PgQueue) -> dict[str, Any]:
    """Two of everything that commands list, with long names."""
    made: dict[str, Any] = {}
    for number in (1, 2):
        mail = pgq.limit(long("limit", number), slots=1)

        @pgq.task(
            name=long("task", number),
            queue=long("queue", number),
            limits=[mail],
            ordered_by="line",
            max_retries=0,
            tags=[long("tag", number)],
        )
        async def charge(ctx: JobContext, line: str) -> None:
            raise ValueError(f"{line}: {'no such account; ' * 40}")

        @pgq.task(name=long("counting", number), queue=long("queue", number))
        async def count(number: int) -> int:
            return number

        dead = await charge.options(key=long("key", number)).enqueue(long("line", number))
        workflow = await group(count.s(1), count.s(2)).enqueue()
        async with pgq.worker(name=long("worker", number)):
            await eventually(lambda dead=dead: is_over(pgq, dead.id))  # type: ignore[misc]
            await workflow.join(timeout=60)
        await charge.enqueue(long("line", number))
        await pgq.schedules.create(long("schedule", number), count.s(1), every=3600)
        await pgq.schedules.run_now(long("schedule", number))
        made = {
            "dead": dead.id,
            "workflow": workflow.workflow_id,
            "limit": long("limit", number),
            "schedule": long("schedule", number),
        }
    return made


def joined(text: str) -> str:
    return "".join(text.split())


@pytest.mark.contract("P8.3")
async def test_no_list_cuts_an_id_or_a_name_and_none_is_wider_than_the_window(
    pgq: PgQueue, dsn: str, scene: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = {}

    async with (
        pgq.worker(name=long("worker", 1), queues=["none"]),
        pgq.worker(name=long("worker", 2), queues=["none"]),
    ):
        for command, kinds in LISTS.items():
            *groups, name = command.split(" {")[0].split(" --")[0].split(" ")
            options = [word.format(**scene) for word in command.split(" ")[len(groups) + 1 :]]
            tables: list[Table] = []

            def keep(table: Table, _: int | None, kept: list[Table] = tables) -> list[str]:
                kept.append(table)
                return [""]

            with monkeypatch.context() as patch:
                patch.setattr(Table, "lines", keep)
                assert (await Cli(dsn, *groups)(name, *options))[2] == "", command
            in_full = "\n".join(line for table in tables for line in table.lines(None))
            expected = {*ID.findall(in_full), *(long(kind, number) for kind in kinds for number in (1, 2))}
            for width in WIDTHS:
                lines = [line for table in tables for line in table.lines(width)]
                printed = "\n".join(lines)
                cut = {each for each in expected if joined(each) not in joined(printed)}
                # An id fits into the narrowest of them, and a row into a line that has no end.
                whole = {each for each in expected if width is None or ID.fullmatch(each)}
                cut |= {each for each in whole if each not in printed}
                wide = [line for line in lines if width and cell_len(line) > width]
                if cut or wide:
                    wrong[command, width] = cut, wide, printed[:2000]

    assert wrong == {}


TEXTS: Final = st.text(alphabet=st.sampled_from("ab1 -請é"), max_size=60).map(str.strip)


@settings(max_examples=100)
@given(
    rows=st.lists(st.tuples(TEXTS, TEXTS, st.integers(0, 10**6).map(str), TEXTS), max_size=6),
    width=st.integers(6, 200),
)
def test_a_table_shows_all_of_every_cell_in_windows_of_any_width(
    rows: list[tuple[str, str, str, str]], width: int
) -> None:
    table = Table(["name", "task", "number", "queue"], rows, numbers=["number"])

    lines, whole = table.lines(width), table.lines(None)

    assert max(map(cell_len, lines)) <= width
    text = joined("".join(lines))
    assert all(joined(cell) in text for row in rows for cell in row)
    assert len(whole) == 1 + len(rows)
    assert all(cell in line for row, line in zip(rows, whole[1:], strict=True) for cell in row)


def test_what_does_not_fit_stands_below_its_row_with_the_names_of_its_columns() -> None:
    job = "0198a7b2-0000-7000-8000-00000000000"
    table = Table(
        ["job", "status", "task", "attempt", "details"],
        [
            [f"{job}{n}", "failed", "send_invoices_of_the_region", str(n), "x" * 300 if n else ""]
            for n in (0, 1)
        ],
        numbers=["attempt"],
        prose="details",
    )

    assert table.lines(60) == [
        "job                                   status",
        f"{job}0  failed",
        "    task send_invoices_of_the_region  attempt 0",
        f"{job}1  failed",
        "    task send_invoices_of_the_region  attempt 1",
        f"    details {'x' * 48}",
        f"    {'x' * 56}",
        f"    {'x' * 56}",
        f"    {'x' * 55}…",
    ]
    # Where the last column has room, it is wrapped there.
    assert table.lines(120)[1:4] == [
        f"{job}0  failed  send_invoices_of_the_region        0",
        f"{job}1  failed  send_invoices_of_the_region        1  {'x' * 36}",
        f"{' ' * 84}{'x' * 36}",
    ]


@given(st.text(alphabet="ab 請", max_size=80), st.integers(2, 30))
def test_wrapping_loses_no_letter_and_breaks_only_words_that_are_too_long(text: str, width: int) -> None:
    lines = wrapped(text, width)

    assert joined("".join(lines)) == joined(text)
    assert max(map(cell_len, lines)) <= width
    words = [word for word in text.split() if cell_len(word) <= width]
    assert all(any(word in line for line in lines) for word in words)


WHOLE: Final = (
    "👨\u200d👩\u200d👧",
    "👩🏽\u200d🚀",
    "👋🏽",
    "🇩🇪",
    "❤\ufe0f",
    "1\ufe0f\u20e3",
    "e\u0301",
    "नि",
    "請",
    "a",
    "-",
)
"""What a reader sees as one character, each."""


@given(st.lists(st.sampled_from(WHOLE), max_size=40), st.integers(3, 30))
def test_no_cut_is_within_what_a_reader_sees_as_one_character(seen: list[str], width: int) -> None:
    text = "".join(seen)
    lines = wrapped(text, width)
    cut = middle(text, width)
    before, _, after = cut.partition("…")

    assert list(pieces(text)) == seen
    assert [piece for line in lines for piece in pieces(line)] == seen
    assert max(map(cell_len, (*lines, cut))) <= width
    start, last = list(pieces(before.rstrip())), list(pieces(after.strip()))
    assert start == seen[: len(start)]
    assert last == seen[len(seen) - len(last) :]
    for shown in (sized(text, width), end(text, width)):
        assert cell_len(shown) == width
        assert "".join(pieces(shown)).strip() in text


@given(st.text(max_size=60), st.integers(2, 30))
def test_any_text_is_cut_into_all_of_its_pieces(text: str, width: int) -> None:
    assert "".join(pieces(text)) == text
    assert joined("".join(wrapped(text, width))) == joined(text)
