"""The page of notifications: what happened to what is mine."""

from dataclasses import dataclass

from django.http import HttpResponse
from django.shortcuts import redirect
from django.urls import reverse

from registry.console.pages import Request, action, page, render_page, telling
from registry.models import Notification
from registry.services.notifications import notifications_of, read_notifications

# Where the record of a notification is looked at. A kind that is not here has no page of its own.
_PAGES = {
    "profilerevision": "console:revision",
    "job": "console:job",
    "steeringvector": "console:vector",
    "basemodel": "console:base-model",
}
_SHOWN = 200


@dataclass(frozen=True)
class NotificationView:
    notification: Notification
    url: str


@page()
def show_notifications(request: Request) -> HttpResponse:
    own = notifications_of(request.user)
    newest = own.order_by("-created_at", "pk")[:_SHOWN]
    return render_page(
        request,
        "console/notifications.html",
        title="Notifications",
        notifications=[NotificationView(notification, _find_page(notification)) for notification in newest],
        unread=own.filter(read_at__isnull=True).count(),
        shown=_SHOWN,
    )


def _find_page(notification: Notification) -> str:
    if notification.object_type == "proposal":
        return reverse("console:proposals")
    view = _PAGES.get(notification.object_type)
    return reverse(view, args=[notification.object_id]) if view else ""


@action()
def mark_read(request: Request) -> HttpResponse:
    """All of the reader's own."""
    with telling(request):
        read_notifications(reader=request.user)
    return redirect("console:notifications")
