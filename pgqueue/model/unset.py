"""The mark of an option that is not set."""

from __future__ import annotations

from enum import Enum
from typing import Final


class Unset(Enum):
    """Stands for an option that a level does not set; None is a value of its own."""

    UNSET = "unset"

    def __repr__(self) -> str:
        return "UNSET"


UNSET: Final = Unset.UNSET
