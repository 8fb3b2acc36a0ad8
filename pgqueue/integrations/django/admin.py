"""A link to the dashboard in the admin, where a backend has the option `dashboard`."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib import admin
from django.http import HttpResponseRedirect

from pgqueue.integrations.django.models import Dashboard


def _addresses() -> list[str]:
    found = [each.get("OPTIONS", {}).get("dashboard") for each in getattr(settings, "TASKS", {}).values()]
    return [each for each in found if each]


@admin.register(Dashboard)
class DashboardAdmin(admin.ModelAdmin):  # type: ignore[misc]  # Django has no types
    """Leads to the dashboard, which asks who you are by itself."""

    def has_module_permission(self, request: Any) -> bool:
        """Whether there is a link: the permission `view_dashboard`, and an address."""
        return self.has_view_permission(request)

    def has_view_permission(self, request: Any, obj: Any = None) -> bool:
        """Whether there is a link."""
        allowed: bool = super().has_view_permission(request, obj)
        return allowed and bool(_addresses())

    def has_add_permission(self, request: Any) -> bool:  # noqa: ARG002
        """There is nothing to add."""
        return False

    def has_change_permission(self, request: Any, obj: Any = None) -> bool:  # noqa: ARG002
        """There is nothing to change here."""
        return False

    def has_delete_permission(self, request: Any, obj: Any = None) -> bool:  # noqa: ARG002
        """There is nothing to delete here."""
        return False

    def changelist_view(self, request: Any, extra_context: Any = None) -> Any:  # noqa: ARG002
        """Lead to the dashboard."""
        if not self.has_view_permission(request):
            from django.core.exceptions import PermissionDenied

            raise PermissionDenied
        return HttpResponseRedirect(_addresses()[0])
