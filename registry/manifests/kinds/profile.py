"""SteeringProfile: a named intent, and what its latest revision does."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import cached_property

from django.db.models import Prefetch, QuerySet

from registry.manifests.accounts import Consequences, InUse, StatusCondition, condition, judge_evidence
from registry.manifests.documents import Fault, Manifest
from registry.manifests.fields import Spec, choice, mapping, slug, text
from registry.manifests.kind import Index, Kind, Names, Reference, References, Writer
from registry.manifests.kinds.base_model import BaseModels, current_fingerprints, match_base_model, refer_to_base_model
from registry.manifests.kinds.policy import Policies
from registry.manifests.kinds.probe import Probes
from registry.manifests.kinds.revision import REVISION, DraftRisks, find_named, read_revision, render_revisions, replace_named
from registry.manifests.kinds.sealed import get_version
from registry.manifests.kinds.vector import Vectors
from registry.manifests.steps import CREATE, Recorded, Step
from registry.models import Probe, Profile, ProfileRevision, Purpose, RevisionState, Role, SteeringVector
from registry.reads.documents import COVERS
from registry.reads.waivers import find_ended
from registry.services.people import stands_for
from registry.services.profiles import create_profile, delete_profile, draft_revision, edit_profile, edit_revision

# A profile's name and the number of its revision.
Pointer = tuple[str, int]


class Revisions(Index[Profile]):
    """Profiles, with the revisions that flags may point at."""

    @cached_property
    def revisions(self) -> dict[Pointer, ProfileRevision]:
        return read_revisions(self.names)


class Profiles(Kind[Profile, Revisions]):
    name = "SteeringProfile"
    about = "A named intent. What it does is in its revisions, which people approve."
    roles = (Role.AUTHOR,)
    spec = mapping(
        "The intent.",
        required={
            "intent": text("What the steering is for, for people to read.", max_length=5000),
            "purpose": {"format": "purpose", **choice("What of a reply it moves.", Purpose.values)},
            "axis": slug("The behaviour.", max_length=50),
            "riskClass": slug("The risk policy whose caps and demands apply.", max_length=50),
        },
        optional={"revision": REVISION},
    )
    model = Profile
    index = Revisions
    left_alone = ("revision",)
    is_written_first = True

    def render(self, row: Profile) -> Spec:
        return {"intent": row.intent, "purpose": row.purpose, "axis": row.axis, "riskClass": row.risk_class_id}

    def read(self, names: Names = None) -> dict[str, Recorded[Profile]]:
        found = super().read(names)
        latest = _latest_revisions(recorded.row for recorded in found.values())
        revisions = render_revisions(latest.prefetch_related("components__vector", Prefetch("covers", COVERS)))
        for recorded in found.values():
            if recorded.row.pk in revisions:
                recorded.spec["revision"] = revisions[recorded.row.pk]
        return found

    def references(self, manifest: Manifest) -> Iterator[Reference]:
        yield Reference(Policies.name, "spec.riskClass", manifest.spec["riskClass"])
        if "revision" in manifest.spec:
            kinds = {"vector": Vectors.name, "probe": Probes.name}
            for path, field, reference in find_named(manifest.spec["revision"]):
                yield Reference(kinds[field], f"spec.revision.{path}", reference)
            for position, reference in enumerate(manifest.spec["revision"]["covers"]):
                yield Reference(BaseModels.name, f"spec.revision.covers.{position}", reference)

    def resolve(self, manifest: Manifest, references: References) -> tuple[Spec, list[Fault]]:
        spec = manifest.spec
        if "revision" in spec:
            revision = replace_named(spec["revision"], {"vector": references.of(Vectors).complete, "probe": references.of(Probes).complete})
            forms = [(reference, references.of(BaseModels).find(reference)) for reference in revision["covers"]]
            # Which, not in what order. One that the plan registers has no fingerprint yet.
            covers = sorted(refer_to_base_model(form) if form else reference for reference, form in forms)
            spec = {**spec, "revision": {**revision, "covers": covers}}
        return spec, []

    def find_users(self, recorded: Mapping[str, Recorded[Profile]], going: Sequence[Step]) -> Mapping[str, InUse]:
        used = ProfileRevision.objects.filter(profile__in=[found.row for found in recorded.values()])
        return dict.fromkeys(used.values_list("profile__name", flat=True), InUse("has revisions, which stay on record"))

    def write(self, step: Step, writer: Writer) -> None:
        """The intent."""
        spec = step.spec
        head = {"intent": spec["intent"], "purpose": spec["purpose"], "axis": spec["axis"], "risk_class": spec["riskClass"]}
        if step.action == CREATE:
            create_profile(step.name, owner=writer.actor, **head)
        elif any(step.changes_field(f"spec.{name}") for name in self.spec["required"]):
            edit_profile(step.name, actor=writer.actor, **head)

    def write_rest(self, step: Step, writer: Writer) -> None:
        """Another revision than the latest: into the draft at hand if the actor wrote it, else into the next number."""
        if not step.changes_field("spec.revision"):
            return
        profile = Profile.objects.select_related("risk_class").get(name=step.name)
        content = read_revision(
            step.spec["revision"],
            {
                "vector": lambda reference: get_version(SteeringVector.objects.all(), reference),
                "probe": lambda reference: get_version(Probe.objects.select_related("base_model", "prompt_set"), reference),
            },
        )
        latest = ProfileRevision.objects.select_related("author").filter(profile=profile).order_by("-number").first()
        if latest is not None and latest.state == RevisionState.DRAFT and stands_for(latest.author) == stands_for(writer.actor):
            edit_revision(latest.pk, actor=writer.actor, **content)
        else:
            draft_revision(profile, author=writer.actor, **content)

    def delete(self, step: Step, writer: Writer) -> None:
        delete_profile(step.name, actor=writer.actor)

    def judge(self, rows: Mapping[str, Profile]) -> Mapping[str, list[StatusCondition]]:
        current = current_fingerprints()
        latest = _latest_revisions(rows.values()).select_related("base_model", "evaluation").prefetch_related(Prefetch("covers", COVERS))
        revisions = {revision.profile_id: revision for revision in latest}
        ended = find_ended(revisions.values())

        def judge(revision: ProfileRevision | None) -> Iterator[StatusCondition]:
            if revision is None:
                yield condition("Approved", False, "NoRevision")
                return
            approved = revision.state == RevisionState.APPROVED
            message = f"revision {revision.number} is {revision.state}"
            yield condition("Approved", approved, revision.state.title(), message, since=revision.decided_at)
            yield judge_evidence(revision.evaluation, revision.waivers, ended=ended.get(revision.pk, ()))
            yield match_base_model(revision.base_model, current, [covered.base_model.fingerprint for covered in revision.covers.all()])

        return {name: list(judge(revisions.get(row.pk))) for name, row in rows.items()}

    def weigh(self, steps: Sequence[Step], references: References) -> Consequences:
        drafting = [step for step in steps if step.changes_field("spec.revision")]
        risks = DraftRisks(drafting)
        return Consequences({step.name: list(risks.find(step)) for step in drafting})


def read_revisions(names: Collection[str]) -> dict[Pointer, ProfileRevision]:
    """Every revision of the profiles of these names, with whatever decides whether it may steer."""
    rows = ProfileRevision.objects.filter(profile__name__in=names).select_related("profile", "base_model", "evaluation", "author")
    rows = rows.prefetch_related("components__vector", Prefetch("covers", COVERS))
    return {(row.profile.name, row.number): row for row in rows}


def _latest_revisions(profiles: Iterable[Profile]) -> "QuerySet[ProfileRevision]":
    return ProfileRevision.objects.filter(profile__in=list(profiles)).order_by("profile_id", "-number").distinct("profile_id")
