"""What holds jobs back: so far the depth of queues.

The process that enqueues keeps its own count between two looks at the database. A counter row would be
exact for all processes together, and every enqueue would wait for every other.
"""
