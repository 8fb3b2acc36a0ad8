"""What waits for changes: event streams and long polls."""
