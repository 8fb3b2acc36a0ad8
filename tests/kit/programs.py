"""Programs of other projects that tests run."""

from __future__ import annotations

import os
import shutil

import pytest


def find_program(name: str, package: str) -> str:
    """Return the path of a program; skip the test where it is missing, or fail it where it must not be."""
    path = shutil.which(name)
    if path is not None:
        return path
    message = f"{name} is not installed (Debian: `apt-get install {package}`)"
    if os.environ.get("PGQUEUE_CI"):
        pytest.fail(message)
    pytest.skip(message)
