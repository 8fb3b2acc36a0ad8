"""Worker processes: the supervisor that starts them again, and the child that runs isolated attempts."""
