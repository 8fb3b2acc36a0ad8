"""The brokers by the names that Dramatiq has for them."""
