"""Connections to PostgreSQL, the text of the statements, migrations, and patience with outages.

Knows connections and SQL, but not jobs. Connections for pgqueue's own statements have settings that keep
query plans stable when a table's statistics are old. Behind a transaction-mode pooler these settings are
local to each statement's transaction; a session setting would leak to another client there.
"""
