"""What a PgQueue offers, in parts: jobs, enqueueing, dead letters, and settings at run time."""
