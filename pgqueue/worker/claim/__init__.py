"""How a worker claims jobs."""
