"""HTTP itself: bodies, queries, responses, problems, entity tags."""
