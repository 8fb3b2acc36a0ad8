"""What commands that run for long share: their life, HTTP servers, sockets, the port for metrics."""
