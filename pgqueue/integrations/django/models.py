"""What the admin lists: a link to the dashboard. It has no table."""

from __future__ import annotations

from django.db import models


class Dashboard(models.Model):  # type: ignore[misc]  # Django has no types
    """The dashboard, which shows all jobs. Whoever may view it sees the link."""

    class Meta:
        """No table, and what a user may be permitted."""

        managed = False
        default_permissions = ("view", "change")
        verbose_name_plural = "dashboard"

    def __str__(self) -> str:
        return "dashboard"
