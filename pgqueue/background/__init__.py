"""The loops of an open PgQueue: notifications, watching jobs, reading them, writing statistics."""
