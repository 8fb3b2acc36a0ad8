"""Connections to PostgreSQL, the text of the statements, migrations, and patience with outages."""
