"""What holds jobs back: the depth of queues."""
