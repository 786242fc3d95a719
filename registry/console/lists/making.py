"""What is made: from base models and data sets to vectors and their evaluations."""

from django.contrib import admin
from django.db import models
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from unfold.decorators import display

from registry.console.lists.readonly import ReadOnlyList, column, link_to
from registry.console.pages import Request
from registry.models import BaseModel, ContrastSet, EvalSuite, Evaluation, Job, Probe, PromptSet, SteeringVector
from registry.templatetags.console import digest, moment, number, short, state, time_left


@admin.register(BaseModel)
class BaseModels(ReadOnlyList):
    list_display = [
        "name_column",
        "fingerprint_column",
        "environments",
        "form_of",
        "architecture",
        "layers",
        "context",
        "registered_by",
        "registered_moment",
    ]
    registered_moment = column("registered_at", "Registered", moment)
    list_filter = ["architecture"]
    search_fields = ["name", "fingerprint"]
    list_select_related = ["derived_from", "registered_by"]
    list_display_links = None
    fingerprint_column = column("fingerprint", "Fingerprint", digest)

    def get_queryset(self, request: Request) -> models.QuerySet[BaseModel]:
        return super().get_queryset(request).prefetch_related("served_in__environment")

    @display(description="Name", ordering="name")
    def name_column(self, base_model: BaseModel) -> SafeString:
        return link_to("console:base-model", base_model.pk, base_model.name)

    @display(description="Form of")
    def form_of(self, base_model: BaseModel) -> SafeString | str:
        original = base_model.derived_from
        return "—" if original is None else link_to("console:base-model", original.pk, original.name)

    @display(description="Layers × width", ordering="n_layers")
    def layers(self, base_model: BaseModel) -> str:
        return f"{base_model.n_layers} × {base_model.d_model}"

    @display(description="Context", ordering="context_length")
    def context(self, base_model: BaseModel) -> str:
        return f"{base_model.context_length} tokens"

    @display(description="Served in")
    def environments(self, base_model: BaseModel) -> str:
        return ", ".join(sorted(served.environment.name for served in base_model.served_in.all())) or "—"


@admin.register(ContrastSet)
class ContrastSets(ReadOnlyList):
    list_display = ["__str__", "axis", "pair_count", "locales", "products", "digest_column", "author", "sealed_moment"]
    sealed_moment = column("sealed_at", "Sealed", moment)
    list_filter = ["axis"]
    search_fields = ["name", "digest"]
    readonly_fields = ["first_pairs"]
    list_before_template = "console/_upload_contrast_set.html"
    digest_column = column("digest", "Digest", digest)

    @admin.display(description="First pairs")
    def first_pairs(self, contrast_set: ContrastSet) -> SafeString:
        rows = (
            (pair.pair_id, _write_conversation(pair.positive), _write_conversation(pair.negative)) for pair in contrast_set.pairs.all()[:5]
        )
        return format_html_join("", "<p><strong>{}</strong><br>+ {}<br>− {}</p>", rows)


def _write_conversation(messages: list[dict[str, str]]) -> str:
    return " / ".join(f"{message['role']}: {message['content']}" for message in messages)


@admin.register(EvalSuite)
class EvalSuites(ReadOnlyList):
    list_display = ["__str__", "kind", "item_count", "axis", "digest_column", "author", "sealed_moment"]
    sealed_moment = column("sealed_at", "Sealed", moment)
    list_filter = ["kind", "axis"]
    search_fields = ["name", "digest"]
    list_before_template = "console/_upload_eval_suite.html"
    digest_column = column("digest", "Digest", digest)


@admin.register(PromptSet)
class PromptSets(ReadOnlyList):
    list_display = ["__str__", "prompt_count", "intents", "locales", "digest_column", "author", "sealed_moment"]
    sealed_moment = column("sealed_at", "Sealed", moment)
    search_fields = ["name", "digest"]
    list_before_template = "console/_upload_prompt_set.html"
    digest_column = column("digest", "Digest", digest)


@admin.register(Probe)
class Probes(ReadOnlyList):
    list_display = ["probe_column", "base_model", "prompt_set", "intent", "layer", "separates", "digest_column", "author", "sealed_moment"]
    sealed_moment = column("sealed_at", "Sealed", moment)
    list_display_links = None
    list_filter = ["base_model", "layer"]
    search_fields = ["name", "digest"]
    list_select_related = ["base_model", "prompt_set", "author"]
    list_before_template = "console/_train_probe.html"
    digest_column = column("digest", "Digest", digest)

    @display(description="Probe", ordering="name")
    def probe_column(self, probe: Probe) -> SafeString:
        return link_to("console:probe", probe.pk, probe)

    @display(description="AUC on the test split")
    def separates(self, probe: Probe) -> str:
        auc = probe.held_out["auc"]
        return f"{short(auc['value'])} [{short(auc['low'])}, {short(auc['high'])}]"


@admin.register(Job)
class Jobs(ReadOnlyList):
    list_display = ["job_column", "state_column", "progress", "attempt", "base_model", "error_code", "requested_by", "requested_moment"]
    requested_moment = column("requested_at", "Requested", moment)
    list_display_links = None
    list_filter = ["state", "kind", "base_model"]
    search_fields = ["id", "error_code", "vector__name", "contrast_set__name"]
    list_select_related = ["base_model", "requested_by"]
    state_column = column("state", "State", state)

    @display(description="Job", ordering="requested_at")
    def job_column(self, job: Job) -> SafeString:
        return link_to("console:job", job.pk, job)

    @display(description="Progress")
    def progress(self, job: Job) -> SafeString | str:
        if not job.progress_total or job.is_finished:
            return job.note if job.is_finished else time_left(job)
        return format_html(
            '<progress class="sh-progress" value="{}" max="{}">{} of {}</progress> <span class="sh-quiet-text">{}</span>',
            job.progress_done,
            job.progress_total,
            job.progress_done,
            job.progress_total,
            time_left(job),
        )


@admin.register(SteeringVector)
class Vectors(ReadOnlyList):
    list_display = ["vector_column", "base_model", "contrast_set", "layer", "site_column", "method", "proposed", "digest_column", "author"]
    list_display_links = None
    list_filter = ["base_model", "site", "method", "layer"]
    search_fields = ["name", "digest"]
    list_select_related = ["base_model", "contrast_set", "author"]
    site_column = column("site", "Site", str)
    digest_column = column("digest", "Digest", digest)

    @display(description="Vector", ordering="name")
    def vector_column(self, vector: SteeringVector) -> SafeString:
        return link_to("console:vector", vector.pk, vector)

    @display(description="Proposed α", ordering="proposed_alpha")
    def proposed(self, vector: SteeringVector) -> str:
        return "—" if vector.proposed_alpha is None else f"{number(vector.proposed_alpha)} {vector.get_proposed_unit_display().lower()}"


@admin.register(Evaluation)
class Evaluations(ReadOnlyList):
    list_display = ["__str__", "vector_column", "verdict_column", "digest_column", "evaluated_moment"]
    evaluated_moment = column("evaluated_at", "Evaluated", moment)
    verdict_column = column("verdict", "Verdict", state)
    list_filter = ["verdict"]
    search_fields = ["digest", "vector__name"]
    list_select_related = ["vector", "revision__profile"]
    digest_column = column("digest", "Digest", digest)

    @display(description="Vector", ordering="vector__name")
    def vector_column(self, evaluation: Evaluation) -> SafeString | str:
        return "—" if evaluation.vector is None else link_to("console:vector", evaluation.vector_id, evaluation.vector)
