"""What governs: profiles, where they steer, what stops them, and what nodes are told."""

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpResponse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from unfold.decorators import display

from registry.console.documents import title_declared
from registry.console.lists.readonly import ReadOnlyList, column, link_to, one_of
from registry.console.pages import Request
from registry.manifests.kinds import KINDS
from registry.models import (
    Declaration,
    Environment,
    GateSet,
    Kill,
    NodeReport,
    Profile,
    ProfileRevision,
    RiskPolicy,
    ServingNode,
    Snapshot,
    Tenant,
    TenantFlag,
)
from registry.snapshots import read_envelope
from registry.templatetags.console import digest, moment, number, state
from steernode.gates import gate_sets, shipped_set


@admin.register(Profile)
class Profiles(ReadOnlyList):
    list_display = ["profile_column", "intent", "purpose", "axis", "risk_column", "owner", "created_moment"]
    created_moment = column("created_at", "Created", moment)
    list_display_links = None
    list_filter = ["risk_class", "purpose", "axis"]
    search_fields = ["name", "intent"]
    list_before_template = "console/_create_profile.html"
    risk_column = column("risk_class_id", "Risk class", state)

    @display(description="Profile", ordering="name")
    def profile_column(self, profile: Profile) -> SafeString:
        return link_to("console:profile", profile.name, profile)


@admin.register(ProfileRevision)
class Revisions(ReadOnlyList):
    list_display = ["revision_column", "state_column", "author", "base_model", "digest_column", "submitted_moment", "decided_moment"]
    decided_moment = column("decided_at", "Decided", moment)
    submitted_moment = column("submitted_at", "Submitted", moment)
    list_display_links = None
    list_filter = ["state", "author"]
    search_fields = ["profile__name", "digest"]
    list_select_related = ["profile", "author", "base_model"]
    state_column = column("state", "State", state)
    digest_column = column("digest", "Digest", digest)

    @display(description="Revision", ordering="created_at")
    def revision_column(self, revision: ProfileRevision) -> SafeString:
        return link_to("console:revision", revision.pk, revision)


@admin.register(GateSet)
class GateSets(ReadOnlyList):
    """The organisation's own, below those that ship."""

    list_display = ["__str__", "about", "digest_column", "author", "sealed_moment"]
    fields = ["name", "version", "digest", "about", "listed", "author", "sealed_at"]
    readonly_fields = ["listed"]
    search_fields = ["name", "digest", "about"]
    list_select_related = ["author"]
    list_before_template = "console/_shipped_gate_sets.html"
    sealed_moment = column("sealed_at", "Sealed", moment)
    digest_column = column("digest", "Digest", digest)

    def changelist_view(self, request: Request, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        sets = [shipped_set(name) for name in gate_sets()]
        shipped = [(f"{each.name} v{each.version}", each.about, title_declared(each.reasoned)) for each in sets]
        return super().changelist_view(request, {**(extra_context or {}), "shipped": shipped})

    @admin.display(description="Gates")
    def listed(self, gate_set: GateSet) -> SafeString:
        rows = ((title, f"{rule} {gate.threshold}", why) for title, rule, gate, why in title_declared(gate_set.gates))
        return format_html_join("", "<p><strong>{}</strong> {}<br>{}</p>", rows)


@admin.register(RiskPolicy)
class Policies(ReadOnlyList):
    list_display = ["policy_column", "gate_set", "minimum_pairs", "approvals_needed", "review_after_days", "reason", "changed_moment"]
    changed_moment = column("changed_at", "Changed", moment)
    list_display_links = None
    list_before_template = "console/_create_policy.html"

    @display(description="Risk policy", ordering="name")
    def policy_column(self, policy: RiskPolicy) -> SafeString:
        return link_to("console:policy", policy.name, policy)


@admin.register(Environment)
class Environments(ReadOnlyList):
    list_display = ["name", "head_revision", "flags_column", "created_moment"]
    created_moment = column("created_at", "Created", moment)

    @display(description="Flags")
    def flags_column(self, environment: Environment) -> SafeString:
        return link_to("console:environment-flags", environment.name, "flags")


@admin.register(Tenant)
class Tenants(ReadOnlyList):
    list_display = ["name", "title", "created_moment"]
    created_moment = column("created_at", "Created", moment)
    search_fields = ["name", "title"]


@admin.register(TenantFlag)
class Flags(ReadOnlyList):
    list_display = ["__str__", "enabled", "scale_column", "revision_column", "reason", "changed_by", "changed_moment"]
    changed_moment = column("changed_at", "Changed", moment)
    list_filter = ["environment", "enabled"]
    search_fields = ["tenant__name", "route", "reason"]
    list_select_related = ["environment", "tenant", "revision__profile", "changed_by"]
    scale_column = column("alpha_scale", "α scale", number)

    @display(description="Revision")
    def revision_column(self, flag: TenantFlag) -> SafeString:
        return link_to("console:revision", flag.revision_id, flag.revision) if flag.revision else format_html("{}", "the tenant's")


@admin.register(Declaration)
class Declarations(ReadOnlyList):
    """What manifests declare. What was pruned is left out."""

    list_display = ["name", "kind", "manager_column", "labels_column", "generation", "spec_column", "applied_by", "applied_moment"]
    list_filter = [one_of("kind", "kind", lambda: KINDS)]
    search_fields = ["name", "manager"]
    list_select_related = ["plan__applied_by"]
    spec_column = column("spec_digest", "Spec", digest)
    applied_by = column("plan__applied_by", "Applied by", str)
    applied_moment = column("plan__applied_at", "Applied", moment)
    manager_column = column("manager", "Manager", lambda manager: manager or "—")

    @display(description="Labels")
    def labels_column(self, declaration: Declaration) -> str:
        return ", ".join(f"{name}={value}" for name, value in sorted(declaration.labels.items())) or "—"

    def get_queryset(self, request: Request) -> QuerySet[Declaration]:
        return super().get_queryset(request).in_force()


@admin.register(Kill)
class Kills(ReadOnlyList):
    list_display = ["__str__", "reason", "origin", "engaged_moment", "lift_requested_by", "lifted_by", "lifted_moment"]
    lifted_moment = column("lifted_at", "Lifted", moment)
    engaged_moment = column("engaged_at", "Engaged", moment)
    list_filter = ["kind", ("lifted_at", admin.EmptyFieldListFilter)]
    list_select_related = ["engaged_by", "reported_by", "lift_requested_by", "lifted_by"]


@admin.register(Snapshot)
class Snapshots(ReadOnlyList):
    list_display = ["__str__", "cause", "rollback_of", "content_column", "etag", "issued_moment", "expires_moment"]
    expires_moment = column("expires_at", "Expires", moment)
    issued_moment = column("issued_at", "Issued", moment)
    list_filter = ["environment", "cause"]
    search_fields = ["content_digest", "etag"]
    list_select_related = ["environment"]
    exclude = ["payload_zlib", "signatures"]
    readonly_fields = ["signed_envelope"]
    content_column = column("content_digest", "Content", digest)

    @admin.display(description="Signed envelope")
    def signed_envelope(self, snapshot: Snapshot) -> SafeString:
        return format_html('<pre class="sh-pre">{}</pre>', read_envelope(bytes(snapshot.payload_zlib), snapshot.signatures).decode())


@admin.register(ServingNode)
class Nodes(ReadOnlyList):
    list_display = ["name", "environment", "last_result_column", "last_code", "applied_revision", "engine", "last_seen_moment", "is_active"]
    last_seen_moment = column("last_seen_at", "Seen", moment)
    list_filter = ["environment", "last_result"]
    search_fields = ["name"]
    list_select_related = ["environment"]
    exclude = ["token_sha256", "enrolment_sha256", "past_tokens"]
    last_result_column = column("last_result", "Last word", state)


@admin.register(NodeReport)
class NodeReports(ReadOnlyList):
    list_display = ["node", "result_column", "code", "message", "revision", "received_moment"]
    received_moment = column("received_at", "Received", moment)
    list_filter = ["result", "node", "code"]
    list_select_related = ["node"]
    result_column = column("result", "Result", state)
