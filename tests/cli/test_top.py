"""`pgqueue top`: what its screen shows in windows of any size, its keys, and how it ends."""

from __future__ import annotations

import math
import termios
from dataclasses import replace
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kit.command_line import Cli
from kit.cutting import cutting_proxy
from kit.job_records import NOON
from kit.terminal import on_terminal
from rich.cells import cell_len

from pgqueue import PgQueue
from pgqueue.cli.commands.top_view import Looks, Snapshot, press, rooms, sorted_queues, view
from pgqueue.cli.one_line import share, shortened
from pgqueue.cli.running.keyboard import split
from pgqueue.model.measures import Count, Drain, QueueMeasure, RunningJob, WorkerMeasure

HOSTILE = "\x1b[2J[bold]\u202eno\r"
WIDE = "請求書の発行と送付"
SIXTY = "invoices-of-the-accounting-department-of-the-northern-region"
ESCAPES = {"up": "\x1b[A", "down": "\x1b[B", "pageup": "\x1b[5~", "pagedown": "\x1b[6~", "end": "\x1b[F"}


def a_queue(name: str, pending: int, **measured: object) -> QueueMeasure:
    none = Count(0)
    queue = QueueMeasure(
        queue=name,
        is_paused=False,
        pending=Count(pending),
        scheduled=none,
        retrying=none,
        blocked=none,
        running=none,
        failed=none,
        oldest_age=None,
        enqueued_rate=0.0,
        finished_rate=0.0,
        wait=None,
        run=None,
        drain=Drain(1, math.inf, math.inf),
    )
    return replace(queue, **measured)  # type: ignore[arg-type]  # by name


def a_worker(name: str, jobs: int) -> WorkerMeasure:
    running = [
        RunningJob(UUID(int=number), HOSTILE, "default", 1, NOON, 1.0 * number, None)
        for number in range(jobs)
    ]
    return WorkerMeasure(
        lease_id=UUID(int=1),
        name=name,
        version=None,
        queues=(HOSTILE,),
        started_at=NOON,
        lease_age=1.0,
        lease_left=10.0,
        loop_lag=None,
        abandoned_threads=None,
        running=jobs,
        prefetched=0,
        jobs=running,
    )


async def enqueue(pgq: PgQueue, queue: str) -> None:
    await pgq.enqueue_by_name("work", options={"queue": queue})


def lines_of(snapshot: Snapshot, looks: Looks | None = None, *, height: int, width: int = 100) -> list[str]:
    return [line.text for line in view(snapshot, looks or Looks(), width, height)]


# What is shown


@settings(max_examples=50)
@given(
    sizes=st.tuples(st.integers(0, 40), st.integers(0, 40), st.integers(0, 40)),
    name=st.sampled_from([HOSTILE, SIXTY, WIDE * 30, "q"]),
    keys=st.lists(st.sampled_from([*"dornfx", "tab", "backtab", *ESCAPES, "home"]), max_size=8),
    height=st.integers(1, 60),
    width=st.integers(1, 200),
)
def test_a_screen_is_never_overfull(
    sizes: tuple[int, int, int], name: str, keys: list[str], height: int, width: int
) -> None:
    queues, workers, jobs = sizes
    snapshot = Snapshot(
        NOON,
        [a_queue(f"{name}-{number}", number) for number in range(queues)],
        [a_worker(f"{name}-{number}", jobs) for number in range(workers)],
        problem=HOSTILE,
    )
    looks = Looks()
    for key in keys:
        looks = press(looks, key, snapshot, height)

    lines = lines_of(snapshot, looks, height=height, width=width)

    assert len(lines) <= height
    assert max(map(cell_len, lines)) <= width
    assert all(each.isprintable() for line in lines for each in line)


@pytest.mark.parametrize("size", [(20, 5), (40, 10), (80, 24), (200, 50)])
@pytest.mark.parametrize("length", [60, 200])
@pytest.mark.parametrize("letters", ["queue-of-", WIDE, HOSTILE])
@pytest.mark.parametrize("place", ["start", "middle", "end"])
def test_long_names_are_cut_and_told_apart(
    size: tuple[int, int], length: int, letters: str, place: str
) -> None:
    filler = (letters * length)[:length]
    at = {"start": 0, "middle": length // 2, "end": length}[place]
    names = [f"{filler[:at]}{number}{filler[at:]}" for number in (1, 2)]
    snapshot = Snapshot(NOON, [a_queue(name, 20_000) for name in names])

    lines = lines_of(snapshot, width=size[0], height=size[1])

    # Of the smallest window, one row: the other is there to scroll to.
    moved = lines_of(snapshot, press(Looks(), "down", snapshot, size[1]), width=size[0], height=size[1])
    around = (">", " ", "pgqueue", "queue ", "q quit", "worker ", "job ")
    rows = {
        line for line in (*lines, *moved) if line.strip() not in ("", "queue") and not line.startswith(around)
    }
    assert len(rows) == 2
    if size[0] > 20:
        assert all("20,000" in row for row in rows)


def test_a_narrow_screen_cuts_names_and_no_figures() -> None:
    queue = a_queue(SIXTY, 20_000, oldest_age=75.0, failed=Count(7), finished_rate=12_345.0)

    [row] = [line for line in lines_of(Snapshot(NOON, [queue]), height=24, width=80) if "inv" in line]

    assert row.startswith("invoices-")
    assert row.split()[1:4] == ["20,000", "0", "7"]
    assert "1 min 15 s" in row
    assert "12.3 k/s" in row


def test_what_does_not_fit_is_counted_and_the_deepest_queues_are_shown_first() -> None:
    many = [a_queue(f"queue-{number}", pending=number) for number in range(50)]

    lines = lines_of(Snapshot(NOON, many), height=24)

    shown = [line.split()[0] for line in lines if line.startswith("queue-")]
    assert shown == [f"queue-{number}" for number in range(49, 36, -1)]
    assert ">queues 1-13 of 50, by depth" in lines


def test_every_order_is_in_the_foot_and_its_key_pressed_twice_reverses_it() -> None:
    queues = [
        a_queue("a", 1, oldest_age=5.0, finished_rate=3.0, failed=Count(1)),
        a_queue("b", 3, oldest_age=None, finished_rate=2.0, failed=Count(5)),
        a_queue("c", 2, oldest_age=9.0, finished_rate=1.0, failed=Count(5)),
    ]
    snapshot = Snapshot(NOON, queues)

    def order(*keys: str) -> str:
        looks = Looks()
        for key in keys:
            looks = press(looks, key, snapshot, 24)
        return "".join(each.queue for each in sorted_queues(queues, looks))

    # Of equal ones, the first by name.
    assert [order(), order("o"), order("r"), order("n"), order("f")] == ["bca", "cab", "abc", "abc", "bca"]
    assert [order("n", "n"), order("o", "o"), order("n", "n", "n")] == ["cba", "bac", "abc"]
    foot = lines_of(snapshot, height=24, width=80)[-1]
    assert foot.endswith("sort: [d depth] o oldest r rate n name f failures")


@settings(max_examples=50)
@given(
    keys=st.lists(st.sampled_from(["up", "down", "pageup", "pagedown", "home", "end"]), max_size=20),
    part=st.integers(0, 2),
    height=st.integers(5, 40),
)
def test_scrolling_stays_within_the_rows(keys: list[str], part: int, height: int) -> None:
    snapshot = Snapshot(NOON, [a_queue(f"{number}", number) for number in range(40)], [a_worker("w", 3)] * 30)
    looks = replace(Looks(), part=part)

    for key in [*keys, "end"]:
        looks = press(looks, key, snapshot, height)
    at_end = looks.offsets[part]

    total, room = (40, 30, 90)[part], rooms(snapshot, looks, height)[part]
    assert at_end == max(0, total - room)
    # No press is lost at the end.
    assert press(press(looks, "down", snapshot, height), "up", snapshot, height).offsets[part] == at_end - 1
    assert press(looks, "home", snapshot, height).offsets[part] == 0
    # Rows that have gone since leave no empty screen.
    fewer = replace(snapshot, queues=snapshot.queues[:3])
    assert any(line.startswith(("0 ", "w ", "00000000")) for line in lines_of(fewer, looks, height=height))


def test_a_screen_says_why_it_was_not_updated() -> None:
    lines = lines_of(Snapshot(NOON, problem="the database is unavailable"), height=20)

    assert "not updated: the database is unavailable" in lines


@given(st.integers(-5, 100), st.lists(st.integers(0, 100), max_size=5))
def test_lines_are_shared_out(lines: int, wanted: list[int]) -> None:
    given_lines = share(lines, wanted)

    assert all(0 <= got <= want for got, want in zip(given_lines, wanted, strict=True))
    assert sum(given_lines) == min(max(lines, 0), sum(wanted))


def test_small_parts_are_shown_whole() -> None:
    assert share(30, [100, 2, 50]) == [14, 2, 14]


@given(st.sets(st.text(max_size=60), max_size=30), st.integers(12, 40))
def test_names_that_are_cut_are_told_apart(names: set[str], width: int) -> None:
    short = shortened(names, width)

    assert len(set(short.values())) == len(names)
    assert all(cell_len(each) <= width for each in short.values())


# Keys


def test_keys_are_read_whole_and_in_pieces() -> None:
    assert split(b"qx\x1b[A\x1bOB\t ") == (["q", "x", "up", "down", "tab", "pagedown"], b"")
    assert split(b"\x1b[6~\x1b[1;5C\x1b[H") == (["pagedown", "unknown", "home"], b"")
    # An escape alone may be the beginning of a key; and what begins one is not the key itself.
    for begun in (b"\x1b", b"\x1b[", b"\x1b[5", b"\x1bO"):
        assert split(b"x" + begun) == (["x"], begun)
    assert split(b"\x1b\x1b[A") == (["escape", "up"], b"")


# On a terminal


@pytest.mark.contract("P8.3")
async def test_top_sorts_scrolls_and_fits_windows_of_any_size(pgq: PgQueue, dsn: str) -> None:
    names = [f"{SIXTY}{number:02}" for number in range(1, 31)]
    for name in names:
        await enqueue(pgq, name)
    await enqueue(pgq, f"{WIDE * 20}\x07")

    async with on_terminal("top", f"--dsn={dsn}", "--interval=0.2", lines=24, columns=80) as terminal:
        first = await terminal.looks(lambda frame: any("32 queues" in line for line in frame))
        assert max(map(cell_len, first)) <= 80
        assert "q quit" in first[-1]
        terminal.press(b"n")
        await terminal.looks(lambda frame: "[n name]" in frame[-1] and "region01" in "".join(frame))
        terminal.press(b"n")
        await terminal.looks(lambda frame: any(line.startswith("請") for line in frame[3:4]))
        terminal.press(b"\x1b[")
        terminal.press(b"F")
        last = await terminal.looks(lambda frame: "region01" in "".join(frame))
        assert "of 32, by name, reversed" in "".join(last)
        terminal.press(b"\x1b[H\x1b[6~\x1b[B")
        await terminal.looks(lambda frame: f">queues {len(rows_of(last)) + 2}-" in "".join(frame))
        terminal.resize(5, 20)
        small = await terminal.looks(lambda frame: len(frame) == 5 and frame[-1].startswith("q quit"))
        assert max(map(cell_len, small)) <= 20
        terminal.resize(50, 200)
        await terminal.looks(lambda frame: len(frame) == 50 and any(names[0] in line for line in frame))
        terminal.press(b"\x1b")
        assert await terminal.ended() == 0
        assert termios.tcgetattr(terminal.device) == terminal.modes
    assert "\x07" not in terminal.shown


def rows_of(frame: list[str]) -> list[str]:
    return [line for line in frame if SIXTY[:9] in line or line.startswith(("請", "default"))]


@pytest.mark.contract("P8.3", "F6")
async def test_top_shows_an_outage_and_goes_on(pgq: PgQueue, dsn: str) -> None:
    async with (
        cutting_proxy(dsn, "&connect_timeout=2") as proxy,
        on_terminal("top", f"--dsn={proxy.dsn}", "--interval=0.2") as terminal,
    ):
        await terminal.looks(lambda frame: any(", 0 workers" in line for line in frame))
        proxy.go_away(0, is_sent=False)
        await terminal.looks(lambda frame: any(line.startswith("not updated: ") for line in frame))
        # Keys are heard meanwhile.
        terminal.press(b"f")
        await terminal.looks(lambda frame: "[f failures]" in frame[-1])
        await enqueue(pgq, "later")
        assert proxy.come_back()
        await terminal.looks(
            lambda frame: "later" in "".join(frame) and not any("not updated" in line for line in frame)
        )
        proxy.is_away = True
        await terminal.looks(lambda frame: any(line.startswith("not updated: ") for line in frame))
        terminal.press(b"q")
        assert await terminal.ended() == 0


async def test_top_without_a_terminal_prints_once(dsn: str, pgq: PgQueue) -> None:
    name = WIDE * 20
    await enqueue(pgq, name)

    code, printed, _ = await Cli(dsn)("top")

    assert code == 0
    assert name in printed
    assert "\x1b" not in printed
