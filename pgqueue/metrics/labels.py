"""Limits label values, so that hostile or endless names do not become endless series."""

from __future__ import annotations

from typing import Final

OTHER: Final = "other"
"""The label value of all names past the limit."""
MAX_SERIES: Final = 200
MAX_LENGTH: Final = 200
"""Characters of a label value; longer names are cut."""


class Cap:
    """Keeps the first *limit* distinct combinations of label values; all further ones become "other"."""

    def __init__(self, limit: int = MAX_SERIES) -> None:
        self._limit = limit
        self._known: dict[tuple[str, ...], tuple[str, ...]] = {}

    def of(self, *values: str) -> tuple[str, ...]:
        """Return the label values to use instead of *values*."""
        labels = self._known.get(values)
        if labels is not None:
            return labels
        if len(self._known) >= self._limit:
            return (OTHER,) * len(values)
        labels = self._known[values] = tuple(map(_readable, values))
        return labels


def _readable(value: str) -> str:
    # Half a surrogate pair cannot be encoded as UTF-8: the whole page would fail.
    return value[:MAX_LENGTH].encode(errors="replace").decode()
