"""Who may do what: access, login sessions, the origin of requests, and the guard around the app."""
