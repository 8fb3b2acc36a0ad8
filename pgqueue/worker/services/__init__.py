"""What a handler reaches through its context: transactions, steps, progress."""
