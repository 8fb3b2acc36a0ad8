"""What the screen of `pgqueue top` shows: pure functions on a snapshot, what was pressed, and a size."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, Literal, NamedTuple, TypeAlias

from rich.cells import cell_len, set_cell_size

from pgqueue.cli.commands.jobs import describe_progress
from pgqueue.cli.commands.workers import running_of
from pgqueue.cli.one_line import fit, share
from pgqueue.cli.output import known, plain
from pgqueue.model.figures import count, duration, rate, rate_unit, to_empty
from pgqueue.model.measures import QueueMeasure, RunningJob, WorkerMeasure

Order: TypeAlias = Literal["depth", "oldest", "rate", "name", "failures"]
Part: TypeAlias = Literal["queues", "workers", "jobs"]
Style: TypeAlias = Literal["", "bold", "dim", "red", "reverse"]

ORDERS: Final[Mapping[str, Order]] = {
    "d": "depth",
    "o": "oldest",
    "r": "rate",
    "n": "name",
    "f": "failures",
}
"""By which key queues are put in which order. Pressed again, the key reverses it."""
PARTS: Final[tuple[Part, ...]] = ("queues", "workers", "jobs")
AROUND: Final = 11
"""Lines of a screen with all parts that show no queue, worker or job."""
SMALL: Final = 18
"""Screens with fewer lines show one part alone."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The queues and workers at one moment."""

    at: datetime
    queues: Sequence[QueueMeasure] = ()
    workers: Sequence[WorkerMeasure] = ()
    problem: str | None = None
    """Why the last refresh failed."""


@dataclass(frozen=True, slots=True)
class Looks:
    """What the reader has chosen: the order of the queues, and the part that the arrows move."""

    order: Order = "depth"
    is_reversed: bool = False
    part: int = 0
    offsets: tuple[int, ...] = (0, 0, 0)
    """How many rows of each part are above the screen."""


class Line(NamedTuple):
    """A line of the screen."""

    text: str
    style: Style = ""


def press(looks: Looks, key: str, snapshot: Snapshot, height: int) -> Looks:
    """Return what is shown after *key* was pressed; a key that means nothing changes nothing."""
    if key in ORDERS:
        again = ORDERS[key] == looks.order and not looks.is_reversed
        return replace(looks, order=ORDERS[key], is_reversed=again, offsets=(0, *looks.offsets[1:]))
    if key in ("tab", "backtab"):
        return replace(looks, part=(looks.part + (1 if key == "tab" else -1)) % len(PARTS))
    room = max(1, rooms(snapshot, looks, height)[looks.part])
    steps = {"up": -1, "down": 1, "pageup": -room, "pagedown": room, "home": -(10**9), "end": 10**9}
    if key not in steps:
        return looks
    last = max(0, _sizes(snapshot)[looks.part] - room)
    moved = min(max(0, min(looks.offsets[looks.part], last) + steps[key]), last)
    return replace(
        looks,
        offsets=tuple(moved if place == looks.part else at for place, at in enumerate(looks.offsets)),
    )


def rooms(snapshot: Snapshot, looks: Looks, height: int) -> list[int]:
    """Return how many rows of each part the screen has room for."""
    sizes = _sizes(snapshot)
    problem = snapshot.problem is not None
    if height >= SMALL:
        return share(height - AROUND - problem, sizes)
    # A title, the part's own title and its head, and the keys.
    room = max(0, height - 4 - problem)
    return [min(room, size) if place == looks.part else 0 for place, size in enumerate(sizes)]


def view(snapshot: Snapshot, looks: Looks, width: int, height: int) -> list[Line]:
    """Return the lines of a screen, at most *height* of at most *width* characters."""
    running = sum(worker.running for worker in snapshot.workers)
    counted = f"{_many(len(snapshot.queues), 'queue')}, {_many(len(snapshot.workers), 'worker')}"
    lines = [Line(f"pgqueue  {snapshot.at:%H:%M:%S}Z  {counted}, {count(running)} running", "bold")]
    if snapshot.problem is not None:
        lines.append(Line(f"not updated: {plain(snapshot.problem)}", "red"))
    is_small = height < SMALL
    for place, room in enumerate(rooms(snapshot, looks, height)):
        if is_small and place != looks.part:
            continue
        lines += _part(snapshot, looks, place, room, width)
        if not is_small:
            lines.append(Line(""))
    foot = Line(_foot(looks), "reverse")
    below = [Line("")] * (height - 1 - len(lines))
    shown = [*lines[: height - 1], *below, foot] if height > 1 else lines[:height]
    return [Line(_cut(line.text, width), line.style) for line in shown]


def sorted_queues(queues: Sequence[QueueMeasure], looks: Looks) -> list[QueueMeasure]:
    """Return the queues in the order that was chosen; of equal ones, the first by name."""
    by: Mapping[Order, Callable[[QueueMeasure], tuple[float, ...]]] = {
        "depth": lambda each: (each.pending.value, each.running.value),
        "oldest": lambda each: (-1.0 if each.oldest_age is None else each.oldest_age,),
        "rate": lambda each: (each.finished_rate, each.enqueued_rate),
        "failures": lambda each: (each.failed.value,),
    }
    named = sorted(queues, key=lambda each: each.queue, reverse=looks.order == "name" and looks.is_reversed)
    if looks.order == "name":
        return named
    # The highest first; sorting in reverse keeps equal ones in order.
    return sorted(named, key=by[looks.order], reverse=not looks.is_reversed)


def _part(snapshot: Snapshot, looks: Looks, place: int, room: int, width: int) -> list[Line]:
    total = _sizes(snapshot)[place]
    # Rows may have gone since it was scrolled.
    first = max(0, min(looks.offsets[place], total - room))
    part = PARTS[place]
    rows = slice(first, first + room)
    match part:
        case "queues":
            ordered = sorted_queues(snapshot.queues, looks)
            table = _queues(ordered, rows, width)
            about = f", by {looks.order}{', reversed' if looks.is_reversed else ''}"
        case "workers":
            by_need = sorted(
                snapshot.workers,
                key=lambda each: (each.is_alive, -each.running, each.name, each.lease_id.int),
            )
            table, about = _workers(by_need, rows, width), ""
        case "jobs":
            longest = sorted(
                ((job, worker) for worker in snapshot.workers for job in worker.jobs),
                key=lambda each: -each[0].seconds,
            )
            running = sum(worker.running for worker in snapshot.workers)
            about = f", the longest-running of {count(running)}" if running > total else ", longest first"
            table = _jobs(longest, rows, width)
    seen = f" {first + 1:,}-{min(first + room, total):,} of {total:,}" if 0 < room < total else f" {total:,}"
    mark = ">" if place == looks.part else " "
    return [
        Line(f"{mark}{part}{seen}{about if total else ''}", "bold" if mark == ">" else "dim"),
        Line(table[0], "bold"),
        *map(Line, table[1:]),
    ]


def _queues(queues: Sequence[QueueMeasure], shown: slice, width: int) -> list[str]:
    coming = rate_unit(each.enqueued_rate for each in queues)
    going = rate_unit(each.finished_rate for each in queues)
    numbers = ["pending", "running", "failed", "oldest", "finished", "enqueued", "to empty", "not ready"]
    rows = [
        [
            plain(f"{each.queue} (paused)" if each.is_paused else each.queue),
            count(each.pending),
            count(each.running),
            count(each.failed),
            known(duration, each.oldest_age),
            rate(each.finished_rate, going),
            rate(each.enqueued_rate, coming),
            to_empty(each),
            count(each.scheduled + each.retrying + each.blocked),
        ]
        for each in queues
    ]
    return fit(["queue", *numbers], rows, width, shown=shown, names=["queue"], numbers=numbers)


def _workers(workers: Sequence[WorkerMeasure], shown: slice, width: int) -> list[str]:
    numbers = ["running", "claimed", "lease", "loop lag", "abandoned"]
    rows = [
        [
            plain(each.name),
            running_of(each),
            count(each.prefetched),
            duration(each.lease_left) if each.is_alive else "lost",
            known(duration, each.loop_lag),
            known(count, each.abandoned_threads),
            plain(", ".join(each.queues)),
            plain(each.version or ""),
        ]
        for each in workers
    ]
    columns = ["worker", *numbers, "queues", "version"]
    return fit(columns, rows, width, shown=shown, names=["worker", "queues", "version"], numbers=numbers)


def _jobs(jobs: Sequence[tuple[RunningJob, WorkerMeasure]], shown: slice, width: int) -> list[str]:
    rows = [
        [
            str(job.job_id),
            duration(job.seconds),
            plain(job.task),
            plain(job.queue),
            plain(worker.name),
            str(job.attempt),
            "" if job.progress is None else plain(describe_progress(job.progress)),
        ]
        for job, worker in jobs
    ]
    columns = ["job", "running for", "task", "queue", "worker", "attempt", "progress"]
    names = ["task", "queue", "worker", "progress"]
    return fit(columns, rows, width, shown=shown, names=names, numbers=["running for", "attempt"])


def _foot(looks: Looks) -> str:
    def shown(key: str, order: Order) -> str:
        return f"[{key} {order}]" if order == looks.order else f"{key} {order}"

    sorts = " ".join(shown(key, order) for key, order in ORDERS.items())
    return f"q quit  Tab part  ↑↓ scroll  sort: {sorts}"


def _sizes(snapshot: Snapshot) -> list[int]:
    jobs = sum(len(worker.jobs) for worker in snapshot.workers)
    return [len(snapshot.queues), len(snapshot.workers), jobs]


def _many(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _cut(text: str, width: int) -> str:
    return text if cell_len(text) <= width else set_cell_size(text, max(width, 0))
