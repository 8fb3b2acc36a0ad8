"""What the shop has."""

from __future__ import annotations

from django.db import models


class Order(models.Model):
    """What somebody wants."""

    number = models.IntegerField()

    def __str__(self) -> str:
        return f"order {self.number}"
