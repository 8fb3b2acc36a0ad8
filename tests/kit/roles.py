"""Roles as `pgqueue roles` makes them, with names of the test's own: roles belong to the whole server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from uuid import uuid4

import asyncpg
from conftest import with_role

from pgqueue.database.sql import load_roles

KINDS = ("enqueue", "receive", "worker", "read")


@dataclass(frozen=True)
class Roles:
    """Users of one database: one that has each role, `other` enqueueing too, and `nobody` that has none."""

    prefix: str
    dsn: str

    def dsn_of(self, user: str) -> str:
        """Return the DSN of a user: 'enqueue', 'receive', 'worker', 'read', 'other' or 'nobody'."""
        return with_role(self.dsn, self.name_of(user))

    def name_of(self, user: str) -> str:
        """Return the name of a user."""
        return f"{self.prefix}_user_{user}"


@asynccontextmanager
async def roles_of(superuser_dsn: str) -> AsyncIterator[Roles]:
    """Make the roles and their users in a database, which has been migrated; drop them in the end."""
    roles = Roles(f"t{uuid4().hex[:12]}", superuser_dsn)
    users = {user: user for user in KINDS} | {"other": "enqueue", "nobody": None}
    connection = await asyncpg.connect(superuser_dsn)
    try:
        await connection.execute(load_roles("pgqueue", roles.prefix))
        for user, kind in users.items():
            name = roles.name_of(user)
            await connection.execute(f"create role {name} login password '{name}'")
            if kind is not None:
                await connection.execute(f"grant {roles.prefix}_{kind} to {name}")
        yield roles
    finally:
        for name in [*(roles.name_of(user) for user in users), *(f"{roles.prefix}_{kind}" for kind in KINDS)]:
            if await connection.fetchval("select true from pg_roles where rolname = $1", name):
                await connection.execute(f"drop owned by {name}; drop role {name}")
        await connection.close()
