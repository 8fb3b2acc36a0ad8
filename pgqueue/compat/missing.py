"""What another framework has, and the layer over pgqueue has not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, NoReturn


class NotThereError(NotImplementedError, AttributeError):
    """A layer does not have this. The message names the way that pgqueue has.

    It is an AttributeError as well, so that `hasattr` and `getattr` with a default can ask for it.
    """


def not_there(what: str, way: str) -> NotThereError:
    """Return the error for *what* is not there; *way*: what to do instead, as an imperative."""
    return NotThereError(f"{what} is not available over pgqueue: {way}")


class Lacking:
    """A class of another framework's, of which the layer has a part: reading the rest raises NotThereError.

    What a class of the user's derives from this is found first, and its own errors are raised as they are.
    """

    lacking: ClassVar[str | None] = None
    """What to do instead of anything else that is not there; None: then it is an AttributeError."""
    ways: ClassVar[Mapping[str, str]] = {}
    """What to do instead, by the name of what is not there."""

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> NoReturn:
            way = None if name.startswith("_") else self.ways.get(name, self.lacking)
            if way is None or hasattr(type(self), name):
                # It is there: an AttributeError of its own came here, and is raised again.
                object.__getattribute__(self, name)
            raise not_there(f"{type(self).__name__}.{name}", way)
