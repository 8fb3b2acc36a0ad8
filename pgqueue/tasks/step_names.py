"""Names of steps and waits of a job: what they may be."""

from __future__ import annotations

from typing import Final

from pgqueue.errors import InvalidStepError
from pgqueue.model.checks import shown

MAX_STEP_NAME: Final = 200
MAX_WAIT_NAME: Final = MAX_STEP_NAME - len("/until")


def check_step_name(name: str) -> None:
    """Raise InvalidStepError unless a step can have this name."""
    if not isinstance(name, str) or not name:
        raise InvalidStepError(f"the name of a step must be a non-empty string, got {shown(name)}")
    if len(name) > MAX_STEP_NAME:
        raise InvalidStepError(
            f"the name of a step must be at most {MAX_STEP_NAME} characters long, got {len(name)}"
        )
    if not name.isprintable():
        raise InvalidStepError(f"the name of a step must contain only printable characters, got {name!r}")


def check_wait_name(name: str) -> None:
    """Raise InvalidStepError unless a wait can have this name."""
    check_step_name(name)
    if len(name) > MAX_WAIT_NAME:
        raise InvalidStepError(
            f"the name of a wait must be at most {MAX_WAIT_NAME} characters long, got {len(name)}"
        )
