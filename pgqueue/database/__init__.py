"""Connections to PostgreSQL, the text of the statements, migrations, and patience with outages.

Knows connections and SQL, and nothing of jobs. Connections for pgqueue's own statements have settings that
keep the planner from starting at a table with old statistics. Behind a transaction-mode pooler they become
local to each statement's transaction: set for a session there, they would end up with another client.
"""
