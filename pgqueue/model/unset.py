"""The mark of an option that is not set."""

from __future__ import annotations

from enum import Enum
from typing import Final


class Unset(Enum):
    """Stands for an option that a level does not set; None is a value of its own."""

    UNSET = "unset"

    # By identity, in C: an enum hashes its member's name, in Python, and a level is hashed with each call.
    __hash__ = object.__hash__

    def __repr__(self) -> str:
        return "UNSET"


UNSET: Final = Unset.UNSET
