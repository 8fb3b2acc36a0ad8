"""The tasks of Django's that this process has imported."""

from __future__ import annotations

from typing import Any, Final

tasks: Final[dict[str, Any]] = {}
"""By their paths."""
