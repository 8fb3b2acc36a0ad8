"""The JSON API, a file an operation or a resource."""
