"""sql/schema.sql shows the schema as it is."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from kit import schema

if TYPE_CHECKING:
    from conftest import Connection


async def test_the_page_of_the_schema_is_what_the_migrations_leave(db: Connection) -> None:
    major = db.get_server_version().major
    if major != schema.MAJOR and os.environ.get("PGQUEUE_TEST_SERVER", "embedded") != "embedded":
        pytest.skip(f"PostgreSQL {major} spells definitions differently than {schema.MAJOR}, which wrote it")

    written = schema.PATH.read_text(encoding="utf-8")
    assert await schema.describe(db) == written, "run `python -m kit.schema` in tests/"
