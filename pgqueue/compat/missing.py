"""What another framework has, and the layer over pgqueue has not."""

from __future__ import annotations


class NotThereError(NotImplementedError, AttributeError):
    """A layer does not have this. The message names the way that pgqueue has.

    It is an AttributeError as well, so that `hasattr` and `getattr` with a default can ask for it.
    """


def not_there(what: str, way: str) -> NotThereError:
    """Return the error for *what* is not there; *way*: what to do instead, as an imperative."""
    return NotThereError(f"{what} is not available over pgqueue: {way}")
