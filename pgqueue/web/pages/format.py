"""Values as the pages show them: figures, and text and JSON that hide nothing. Pure functions."""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

from pgqueue.model import figures

ValueT = TypeVar("ValueT")

ABSENT: Final = "–"  # noqa: RUF001
"""What stands for a value that is missing."""
SHOWN_CHARACTERS: Final = 20_000
"""Most characters of one value that a page shows."""
BRIEF_CHARACTERS: Final = 160
"""Most characters of a job's arguments in a list."""

_MOMENT: Final = re.compile(r"(\d{4}-\d{2}-\d{2}) (\d{2}:\d{2}:\d{2})Z")


def or_dash(format_figure: Callable[[ValueT], str]) -> Callable[[ValueT | None], str]:
    """Return *format_figure* for a value that may be missing: None is shown as a dash."""

    def formatted(value: ValueT | None) -> str:
        return ABSENT if value is None else format_figure(value)

    return formatted


def pretty(value: Any) -> str:
    r"""Return *value* as indented JSON, cut, with characters that reorder or hide text as \uXXXX."""
    return cut(editable(value))


def editable(value: Any) -> str:
    """Return all of *value* as such JSON."""
    return _visible(json.dumps(value, indent=2, ensure_ascii=False))


def cut(text: str, limit: int = SHOWN_CHARACTERS) -> str:
    """Return the beginning of *text*, and how much was left out."""
    left_out = len(text) - limit
    return text if left_out <= 0 else f"{text[:limit]}\n… {left_out:,} more characters"


def brief(arguments: Any, limit: int = BRIEF_CHARACTERS) -> str:
    """Return *arguments* in one short line, as a call has them, with hidden characters as in `pretty`."""
    if isinstance(arguments, dict):
        positional = arguments.get("*", ())
        named = [(f"{name}=", value) for name, value in arguments.items() if name != "*"]
    else:
        positional, named = arguments, []
    values = [("", each) for each in positional] if isinstance(positional, list) else [("", positional)]
    if positional == ():
        values = []
    line = ""
    for name, value in [*values, *named]:
        if isinstance(value, str):
            # So that a long text is not written whole to be cut.
            value = value[: limit + 1]  # noqa: PLW2901
        line += f"{', ' if line else ''}{name}{json.dumps(value, ensure_ascii=False)}"
        if len(line) > limit:
            return _visible(line[:limit]) + "…"
    return _visible(line)


def visible(text: str) -> str:
    r"""Return *text* for eyes: cut, and characters that reorder or hide text as \uXXXX."""
    return cut(_visible(text))


def _visible(text: str) -> str:
    if text.isascii() and (text.isprintable() or not any(map(_is_hidden, set(text)))):
        return text
    hidden = {ord(each): _escape(each) for each in set(text) if _is_hidden(each)}
    return text.translate(hidden)


def _is_hidden(character: str) -> bool:
    # Controls, formats (bidi overrides, zero widths) and lone surrogates.
    return character not in "\n\t" and unicodedata.category(character) in {"Cc", "Cf", "Cs", "Zl", "Zp"}


def _escape(character: str) -> str:
    return json.dumps(character)[1:-1] if character != "\x7f" else "\\u007f"


def with_times(text: str) -> str:
    """Return a sentence as HTML: what it says of times is in elements, as the script wants them."""
    from markupsafe import Markup, escape

    # What is put in is digits only.
    return Markup(_MOMENT.sub(_timed, str(escape(visible(text)))))  # noqa: S704


def _timed(found: re.Match[str]) -> str:
    day, time = found.groups()
    return f'<time datetime="{day}T{time}Z" data-shows="moment">{found[0]}</time>'


def is_dark(colour: str) -> bool:
    """Whether white text reads better on *colour* (`#rrggbb`) than black."""
    channels = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
    red, green, blue = (c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue < 0.179


def place(name: str) -> str:
    """Return what stands for *name* in an id: it stays as it is when other queues come and go."""
    return hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=6).hexdigest()


def tally(jobs: int, is_more: bool) -> str:
    """Return a count of jobs, which says whether there may be more. None of those looked at is no count."""
    return "?" if is_more and not jobs else f"{jobs:,}{'+' if is_more else ''}"


FILTERS: Final[Mapping[str, Callable[..., str]]] = {
    "count": figures.count,
    "capped": figures.capped,
    "short": figures.short,
    "amount": figures.amount,
    "share": figures.share,
    "size": or_dash(figures.size),
    "duration": or_dash(figures.duration),
    "between": figures.between,
    "rate": figures.rate,
    "to_empty": lambda queue: figures.to_empty(queue) or ABSENT,
    "drain": or_dash(figures.drain),
    "moment": or_dash(figures.moment),
    "clock": figures.clock,
    "ago": figures.ago,
    "place": place,
    "tally": tally,
    "pretty": pretty,
    "visible": visible,
    "with_times": with_times,
}
"""What templates can put a value through, by name."""
