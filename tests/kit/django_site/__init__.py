"""A project of Django's, for tests: they run it in processes of its own, because its settings are global."""
