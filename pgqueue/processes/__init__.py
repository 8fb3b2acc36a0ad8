"""Processes: the supervisor, which restarts worker processes, and the child, which runs isolated attempts."""
