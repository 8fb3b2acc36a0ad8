"""A terminal and a page show the same text for the same value."""

from __future__ import annotations

from pgqueue.cli.commands.queues import queue_table
from pgqueue.model import figures
from pgqueue.model.measures import Count, Drain, Percentiles, QueueMeasure
from pgqueue.web.pages.format import FILTERS

QUEUE = QueueMeasure(
    queue="mail",
    is_paused=False,
    pending=Count(1_234_567, is_exact=False),
    scheduled=Count(1234),
    retrying=Count(0),
    blocked=Count(0),
    running=Count(1),
    failed=Count(0),
    oldest_age=200.0,
    enqueued_rate=0.5,
    finished_rate=12_345.0,
    wait=Percentiles(0.000_4, 0.85, 4.2),
    run=Percentiles(0.0123, 3605.0, 90_000.0),
    drain=Drain(120.0, 240.0, 540.0),
)


def test_figures_of_a_queue_are_the_same_in_a_terminal_and_on_a_page() -> None:
    [in_terminal] = queue_table([QUEUE]).rows

    for name, value in [
        ("count", QUEUE.pending),
        ("count", QUEUE.scheduled),
        ("duration", QUEUE.oldest_age),
        ("rate", QUEUE.enqueued_rate),
        ("rate", QUEUE.finished_rate),
    ]:
        assert FILTERS[name](value) in in_terminal
    for percentiles in (QUEUE.wait, QUEUE.run):
        assert percentiles is not None
        shown = f"{FILTERS['duration'](percentiles.p50)}, {FILTERS['duration'](percentiles.p95)}"
        assert shown in in_terminal
    assert "0.4 ms, 850 ms" in in_terminal
    assert figures.to_empty(QUEUE) in in_terminal
