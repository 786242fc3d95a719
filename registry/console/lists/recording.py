"""Who may do what, and what was done."""

from collections.abc import Sequence

from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from allauth.socialaccount.models import SocialAccount, SocialApp, SocialToken
from django.apps import apps
from django.contrib import admin
from django.contrib.auth.models import Group
from django.db import models
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.decorators import display

from registry.audit import Action
from registry.console.lists.readonly import ReadOnlyList, column, one_of
from registry.console.pages import Request
from registry.models import AuditEvent, Environment, Role, User
from registry.reads.departures import stands_behind
from registry.templatetags.console import digest, moment

# People and roles are managed by services and by the command line, not by editing rows; nor are logins, whose settings are
# the environment's.
for model in (Group, EmailAddress, SocialAccount, SocialApp, SocialToken, Authenticator):
    admin.site.unregister(model)


@admin.register(User)
class People(ReadOnlyList):
    readers = (Role.ADMIN,)
    list_display = ["username", "email", "roles", "acts_for", "is_active", "last_login"]
    list_filter = ["groups", "is_active"]
    search_fields = ["username", "email"]
    fields = [
        "username",
        "email",
        "roles",
        "acts_for",
        "is_active",
        "is_limited_to_tenants",
        "tenants",
        "is_superuser",
        "last_login",
        "date_joined",
        "rests_on",
    ]
    readonly_fields = ["roles", "rests_on"]

    def get_queryset(self, request: Request) -> models.QuerySet[User]:
        return super().get_queryset(request).prefetch_related("groups")

    @admin.display(description="Roles")
    def roles(self, user: User) -> str:
        return ", ".join(group.name for group in user.groups.all()) or "—"

    @admin.display(description="What rests on this account")
    def rests_on(self, user: User) -> str:
        """What counts no more once the roles are taken away; but what is approved stays approved, and is marked."""
        behind = stands_behind(user)
        said: dict[str, Sequence[models.Model]] = {
            "approved": behind.approved,
            "approved, and waits for others": behind.pending_approvals,
            "submitted": behind.submitted,
            "asks to lift the kill of": behind.lifts,
            "answers for the": behind.waivers,
        }
        return "; ".join(f"{what} {', '.join(map(str, records))}" for what, records in said.items() if records) or "—"


def _list_types() -> list[str]:
    return sorted(str(model._meta.model_name) for model in apps.get_app_config("registry").get_models())


@admin.register(AuditEvent)
class AuditLog(ReadOnlyList):
    """Every change, newest first, and the exact bytes that were hashed."""

    readers = (Role.AUDITOR,)
    list_display = ["seq", "occurred_moment", "action", "actor_column", "object_column", "environment", "tenant", "digest_column"]
    occurred_moment = column("occurred_at", "At", moment)
    list_filter = [
        one_of("action", "action", lambda: Action.values),
        one_of("object_type", "type of object", _list_types),
        one_of("environment", "environment", lambda: Environment.objects.values_list("name", flat=True)),
        "occurred_at",
    ]
    # Looked for exactly, each in an index of its own: parts of words in a log of millions would be read from end to end.
    search_fields = ["action", "actor_name", "object_name", "object_id", "tenant", "environment", "digest"]
    search_help_text = "The whole of an action, a name, an id or a digest."
    ordering = ["-seq"]
    sortable_by = ["seq"]
    exclude = ["body"]
    readonly_fields = ["exact_body"]
    digest_column = column("digest", "Digest", digest)
    actor_column = column("actor_name", "By", str)

    def get_queryset(self, request: Request) -> models.QuerySet[AuditEvent]:
        return super().get_queryset(request).defer("body")

    def get_search_results(
        self, request: Request, queryset: models.QuerySet[AuditEvent], search_term: str
    ) -> tuple[models.QuerySet[AuditEvent], bool]:
        found = models.Q(*((field, search_term) for field in self.search_fields), _connector=models.Q.OR)
        return (queryset.filter(found) if search_term else queryset), False

    @display(description="Object", ordering="object_name")
    def object_column(self, event: AuditEvent) -> SafeString:
        return format_html('{} <span class="sh-quiet-text">{} #{}</span>', event.object_name, event.object_type, event.object_version)

    @admin.display(description="Body")
    def exact_body(self, event: AuditEvent) -> SafeString:
        return format_html('<pre class="sh-pre">{}</pre>', bytes(event.body).decode("utf-8", "replace"))
