"""Makes reference/options.md: every option, its default, and where it can be set."""

from __future__ import annotations

from pathlib import Path

from pgqueue.options.meanings import meanings
from pgqueue.options.table import OPTIONS, Level, Option, Stored

PAGE = Path(__file__).parents[1] / "reference" / "options.md"

HEAD = """# Options

An option can be set at several levels, and the most specific level wins: the call (`task.options(...)`), then
`pgq.configure_task(...)` (at run time; every worker applies it within a second), then the task, then
`pgq.queue(...)`, then `PgQueue(...)`. Durations are in seconds, or a `timedelta`.

This page is made from the code by `python docs/generate`.

| option | means | default | set on |
|---|---|---|---|
"""

TAIL = """
More about some of them: [idempotency keys](../how-to/idempotency.md), [redaction](../how-to/secure.md).

Limits and retries ({looked_up}) are looked up when an attempt
starts, so a change applies to waiting jobs too; what the call itself sets is stored with the job. The options
above them take effect at the enqueue.

Over HTTP, `POST /jobs` takes {http}, and those
that can be set at run time; the header `Idempotency-Key` sets an idempotency key.

## Backpressure

`pgq.queue(name, max_depth=...)` and `PgQueue(max_depth=...)`, which counts for each queue by itself, are not
options of jobs: enqueueing raises `QueueFullError` once this many jobs are pending in the queue. Scheduled,
retried and requeued jobs are accepted. The default is no limit.
"""

EVERYWHERE = (Level.CALL, Level.RUN_TIME, Level.TASK, Level.QUEUE, Level.GLOBAL)


def page() -> str:
    """Return the page."""
    rows = "".join(
        f"| `{each.name}` | {_escaped(meanings()[each.name])} | {_default(each)} | {_levels(each)} |\n"
        for each in OPTIONS.values()
    )
    looked_up = [name for name, each in OPTIONS.items() if each.stored is Stored.DOCUMENT]
    http = [
        name
        for name, each in OPTIONS.items()
        if Level.HTTP in each.levels and Level.RUN_TIME not in each.levels
    ]
    tail = TAIL.format(looked_up=_listed([looked_up[0], looked_up[-1]], " to "), http=_listed(http))
    return HEAD + rows + tail


def _listed(names: list[str], between: str = ", ") -> str:
    return between.join(f"`{name}`" for name in names)


def _escaped(words: str) -> str:
    # Ends a cell.
    return words.replace("|", "\\|")


def _default(option: Option) -> str:
    value = option.default
    match option.name, value:
        case _, None | () | {}:
            return "none"
        case "autoretry_for", _:
            return _listed([each.__name__ for each in value])
        case _, float():
            return f"`{value:g}`"
        case _:
            return f"`{value!r}`".replace("'", '"')


def _levels(option: Option) -> str:
    levels = [level for level in EVERYWHERE if level in option.levels]
    return "all levels" if levels == [*EVERYWHERE] else ", ".join(levels)


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
