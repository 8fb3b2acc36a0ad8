"""Helpers that tasks import."""

from __future__ import annotations

from uuid import uuid4


def uuid() -> str:
    """Return an id for a task: pass it as task_id."""
    return str(uuid4())


gen_unique_id = uuid
