"""A worker's lease, and the event loop that has to turn for it to be renewed."""
