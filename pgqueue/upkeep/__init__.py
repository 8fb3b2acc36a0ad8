"""What keeps the queues moving, whichever worker does it."""
