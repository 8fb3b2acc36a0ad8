"""A workflow as the geometry of a drawing: boxes in layers, and lines between them. Pure functions.

What is alike is one box: members of a group that have the same task and stand between alike jobs. So a chord
of 10,000 is two boxes.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeAlias, TypeVar
from uuid import UUID

from pgqueue.model.jobs import JobStatus
from pgqueue.model.workflows import WorkflowEdge, WorkflowGroup

WIDTH: Final = 176
HEIGHT: Final = 60
JOIN: Final = 22
"""The size of a join, which is no job."""
GAP: Final = 20
"""Between two boxes of a row."""
DROP: Final = 40
"""Between two rows."""
MARGIN: Final = 6
ACROSS: Final = 4
"""Boxes in one row. A layer of more goes on below."""
ALIKE: Final = 4
"""As many alike jobs are drawn one by one, at most."""
MOST_BOXES: Final = 120
"""What comes behind them is drawn as one."""
LABEL: Final = 17
"""Characters of a task's name that fit into a box."""

WORST_FIRST: Final = (
    *(JobStatus.FAILED, JobStatus.RUNNING, JobStatus.EXPIRED, JobStatus.CANCELLED),
    *(JobStatus.PENDING, JobStatus.SCHEDULED, JobStatus.BLOCKED, JobStatus.SUCCEEDED),
)
"""Which status a box of several jobs shows: the first one that some of them have."""

N = TypeVar("N", UUID, int)

_Links: TypeAlias = Mapping[N, Sequence[N]]


@dataclass(frozen=True, slots=True)
class Box:
    """A job, several that are alike, or a join."""

    x: float
    y: float
    width: float
    height: float
    label: str
    """The task. Empty: a join."""
    job: UUID | None
    """The job, if it is a single one."""
    counts: Mapping[JobStatus, int]
    """Its jobs by status."""
    behind: Sequence[str] = ()
    """The labels of the boxes that it waits for, each once."""

    @property
    def total(self) -> int:
        """The number of its jobs."""
        return sum(self.counts.values())

    @property
    def status(self) -> JobStatus | None:
        """What is most worth knowing of its jobs; None: it is a join."""
        return next((each for each in WORST_FIRST if self.counts.get(each)), None)

    @property
    def short(self) -> str:
        """The label, cut to fit."""
        return self.label if len(self.label) <= LABEL else f"{self.label[: LABEL - 1]}…"


@dataclass(frozen=True, slots=True)
class Drawing:
    """Boxes in layers from top to bottom, in reading order, and the paths of the lines between them."""

    width: float
    height: float
    boxes: Sequence[Box]
    lines: Sequence[str]


def draw(groups: Sequence[WorkflowGroup], edges: Sequence[WorkflowEdge]) -> Drawing:
    """Return the drawing of jobs, or *groups* of them, and joins, and of who waits for whom by *edges*."""
    known = {group.id: group for group in groups}
    joins = {end for edge in edges for end in (edge.upstream, edge.downstream)} - known.keys()
    nodes: list[UUID] = sorted(known.keys() | joins)
    names = {node: known[node].task if node in known else "" for node in nodes}
    sizes = {group.id: group.total for group in groups}
    place = fold(names, [(edge.upstream, edge.downstream) for edge in edges], sizes)
    links = sorted({(place[edge.upstream], place[edge.downstream]) for edge in edges})
    members: defaultdict[int, list[UUID]] = defaultdict(list)
    for node in nodes:
        members[place[node]].append(node)
    layers, rest = _cut(rows_of(layer(members, links)), members)
    if rest:
        links = sorted({(rest.get(up, up), rest.get(down, down)) for up, down in links})
        for box, last in rest.items():
            if box != last:
                members[last] += members.pop(box)
    boxes: dict[int, Box] = {}
    y: float = MARGIN
    across = max((len(row) for row in layers), default=1)
    whole = across * (WIDTH + GAP) - GAP
    for row in layers:
        x = MARGIN + (whole - (len(row) * (WIDTH + GAP) - GAP)) / 2
        tall = max(HEIGHT if any(names[node] for node in members[box]) else JOIN for box in row)
        for box in row:
            boxes[box] = _box(members[box], known, x, y, tall)
            x += WIDTH + GAP
        y += tall + DROP
    ups: defaultdict[int, list[int]] = defaultdict(list)
    for up, down in links:
        ups[down].append(up)
    return Drawing(
        whole + 2 * MARGIN,
        max(y - DROP + MARGIN, 0),
        [
            replace(box, behind=list(dict.fromkeys(boxes[up].label for up in ups[place] if up != place)))
            for place, box in boxes.items()
        ],
        [_line(boxes[up], boxes[down]) for up, down in links if up != down],
    )


def fold(
    names: Mapping[UUID, str], edges: Sequence[tuple[UUID, UUID]], sizes: Mapping[UUID, int]
) -> dict[UUID, int]:
    """Return the number of the box of each node: the same one for many that are alike.

    Alike are nodes of one name whose upstream nodes are alike, and whose downstream nodes are. *sizes*: how
    many jobs a node is; 1 if it is not there.
    """
    above: defaultdict[UUID, list[UUID]] = defaultdict(list)
    below: defaultdict[UUID, list[UUID]] = defaultdict(list)
    for up, down in edges:
        above[down].append(up)
        below[up].append(down)
    order = in_order(names, above, below)
    numbers: dict[tuple[str, Hashable], int] = {}

    def classify(nodes: Iterable[UUID], beside: _Links[UUID]) -> dict[UUID, int]:
        classes: dict[UUID, int] = {}
        for node in nodes:
            near = frozenset(classes[each] for each in beside.get(node, ()) if each in classes)
            classes[node] = numbers.setdefault((names[node], near), len(numbers))
        return classes

    down_from = classify(order, above)
    numbers = {}
    up_from = classify(reversed(order), below)
    groups: defaultdict[tuple[int, int], list[UUID]] = defaultdict(list)
    for node in names:
        groups[down_from[node], up_from[node]].append(node)
    place: dict[UUID, int] = {}
    count = 0
    for group in groups.values():
        is_one = sum(sizes.get(node, 1) for node in group) > ALIKE
        for offset, node in enumerate(group):
            place[node] = count if is_one else count + offset
        count += 1 if is_one else len(group)
    return place


def in_order(nodes: Iterable[N], above: _Links[N], below: _Links[N]) -> list[N]:
    """Return *nodes* with each behind those above it. Those on a circle, which cannot be, come last."""
    missing = {node: len(above.get(node, ())) for node in nodes}
    order = [node for node, count in missing.items() if not count]
    for node in order:
        for down in below.get(node, ()):
            missing[down] -= 1
            if not missing[down]:
                order.append(down)
    placed = set(order)
    return order + [node for node in missing if node not in placed]


def layer(nodes: Iterable[int], links: Sequence[tuple[int, int]]) -> list[list[int]]:
    """Return *nodes* by layer, that of the longest path to each; in a layer, each near those above it."""
    above: defaultdict[int, list[int]] = defaultdict(list)
    below: defaultdict[int, list[int]] = defaultdict(list)
    for up, down in links:
        if up != down:
            above[down].append(up)
            below[up].append(down)
    depth: dict[int, int] = {}
    layers: defaultdict[int, list[int]] = defaultdict(list)
    for node in in_order(nodes, above, below):
        depth[node] = 1 + max((depth[up] for up in above[node] if up in depth), default=-1)
        layers[depth[node]].append(node)
    spot: dict[int, float] = {}
    found: list[list[int]] = []
    for _, row in sorted(layers.items()):
        near = {node: _mean([spot[up] for up in above[node] if up in spot]) for node in row}
        ordered = sorted(row, key=lambda node: (near[node], node))
        spot.update({node: (at + 0.5) / len(ordered) for at, node in enumerate(ordered)})
        found.append(ordered)
    return found


def rows_of(layers: Iterable[Sequence[int]]) -> list[list[int]]:
    """Return *layers* as rows that are not too wide."""
    return [list(row[at : at + ACROSS]) for row in layers for at in range(0, len(row), ACROSS)]


def _cut(
    rows: list[list[int]], members: Mapping[int, Sequence[UUID]]
) -> tuple[list[list[int]], dict[int, int]]:
    """Return the rows that are drawn, and which boxes are drawn as which one, the last."""
    if sum(map(len, rows)) <= MOST_BOXES:
        return rows, {}
    kept: list[list[int]] = []
    while sum(map(len, kept)) + len(rows[len(kept)]) < MOST_BOXES:
        kept.append(rows[len(kept)])
    rest = [box for row in rows[len(kept) :] for box in row]
    last = max(rest, key=lambda box: len(members[box]))
    return [*kept, [last]], dict.fromkeys(rest, last)


def _box(
    nodes: Sequence[UUID],
    known: Mapping[UUID, WorkflowGroup],
    x: float,
    y: float,
    tall: float,
) -> Box:
    groups = [known[node] for node in nodes if node in known]
    if not groups:
        return Box(x + (WIDTH - JOIN) / 2, y + (tall - JOIN) / 2, JOIN, JOIN, "", None, {})
    labels: Counter[str] = Counter()
    counts: Counter[JobStatus] = Counter()
    for group in groups:
        labels[group.task] += group.total
        counts.update(group.counts)
    [(label, total)] = labels.most_common(1)
    more = f" and {len(labels) - 1} more" if len(labels) > 1 else ""
    is_single = len(groups) == 1 and total == 1
    return Box(x, y, WIDTH, HEIGHT, label + more, groups[0].id if is_single else None, counts)


def _line(up: Box, down: Box) -> str:
    x, y = up.x + up.width / 2, up.y + up.height
    to_x, to_y = down.x + down.width / 2, down.y
    bend = (y + to_y) / 2
    return f"M{x:g} {y:g}C{x:g} {bend:g} {to_x:g} {bend:g} {to_x:g} {to_y:g}"


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.5
