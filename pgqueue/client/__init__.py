"""What a PgQueue offers, in parts: jobs, enqueueing, dead letters, and changes while workers run.

Each part is a class of methods that PgQueue inherits. A method checks what it was given before any I/O,
then calls the store with a connection, then tells observers. So a call that raises for its arguments has
written nothing, and observers are not told of a change that a rollback took back.
"""
