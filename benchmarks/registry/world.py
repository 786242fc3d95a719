"""The records of a filled hub, stage by stage in the order the data flows."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import count
from typing import Any

from django.conf import settings
from django.db import connection
from django.test import Client
from django.utils import timezone

from benchmarks.registry.copying import copy_records
from benchmarks.registry.names import (
    AXES,
    BASE_MODELS,
    ENVIRONMENTS,
    OPERATOR,
    RISK_CLASSES,
    VERSIONS,
    digest_of,
    profile_name,
    route_name,
    tenant_name,
    vector_name,
)
from benchmarks.registry.scale import Scale
from registry.models import (
    Approval,
    BaseModel,
    Component,
    ContrastPair,
    ContrastSet,
    Environment,
    EvalSuite,
    Evaluation,
    Job,
    JobKind,
    JobState,
    Profile,
    ProfileRevision,
    RevisionState,
    RiskPolicy,
    SteeringVector,
    Tenant,
    TenantFlag,
)
from registry.owner import as_owner
from registry.reads.documents import policy_document, revision_document
from registry.services.demands import measure_peaks
from registry.services.flags import set_flag
from registry.services.people import create_user, issue_token
from registry.services.tenants import create_environment
from steernode.canonical import canonical_json, sha256_hex

SITES = ("resid_post", "resid_post", "resid_post", "resid_mid", "attn_out")
METHODS = ("mean_difference", "mean_difference", "pca_uncentred", "logistic_probe")
LOCALES = ("en-US", "de-DE", "ja-JP")
# Every fifth profile has a second revision on the way.
DRAFT_EVERY = 5
OFF_EVERY = 11


class World:
    """Makes a world of one size. The same size is the same world, but for ids, secrets and times."""

    def __init__(self, scale: Scale) -> None:
        self.scale = scale
        self.random = random.Random(0)
        self.filled_at = timezone.now()
        self.ada = create_user("ada", roles=["author"], actor="benchmark")
        self.reviewers = [create_user(name, roles=["approver"], actor="benchmark") for name in ("grace", "mary")]
        # Reads everything, changes flags, and applies manifests.
        self.oscar = create_user(OPERATOR, roles=["author", "operator", "auditor", "admin"], actor="benchmark")
        self.token = issue_token(self.oscar, name="benchmark", actor="benchmark")[1]

    def log_in(self) -> str:
        """The session key of a person who looks at the console."""
        browser = Client()
        browser.force_login(self.oscar)
        return browser.cookies[settings.SESSION_COOKIE_NAME].value

    def stages(self) -> Iterator[tuple[str, Callable[[], int]]]:
        yield "base models", self._write_base_models
        yield "environments", self._create_environments
        yield "contrast sets", self._write_contrast_sets
        yield "eval suites", self._write_suites
        yield "extraction jobs", self._write_extractions
        yield "vectors", self._write_vectors
        yield "validation jobs", self._write_validations
        yield "evaluations", self._write_evaluations
        yield "profiles", self._write_profiles
        yield "revisions", self._write_revisions
        yield "components", self._write_components
        yield "submissions", self._submit_revisions
        yield "approvals", self._approve_revisions
        yield "tenants", self._write_tenants
        yield "flags", self._write_flags

    def _write_base_models(self) -> int:
        self.base_models = [
            BaseModel(
                name=name,
                source=name,
                fingerprint=digest_of("model", name),
                architecture="LlamaForCausalLM",
                n_layers=32,
                d_model=4096,
                context_length=8192,
                manifest={"schema": "steerhub.base-model/1", "name": name},
                registered_by=self.ada,
            )
            for name in BASE_MODELS
        ]
        return copy_records(self.base_models)

    def _create_environments(self) -> int:
        """Each serves every base model, because it is newer than they are."""
        self.environments = [create_environment(name, actor=self.oscar) for name in ENVIRONMENTS]
        return len(self.environments)

    def _write_contrast_sets(self) -> int:
        self.contrast_sets = [
            ContrastSet(
                name=f"{AXES[number % len(AXES)]}-{number:05}",
                version=1,
                axis=AXES[number % len(AXES)],
                digest=digest_of("set", number),
                pair_count=2,
                locales=[LOCALES[number % len(LOCALES)]],
                products=["billing"],
                author=self.ada,
            )
            for number in range(max(8, self.scale.vectors // 100))
        ]
        pairs = (
            ContrastPair(
                contrast_set=contrast_set,
                index=index,
                pair_id=f"p{index}",
                positive=[{"role": "user", "content": f"Where is refund {index}?"}, {"role": "assistant", "content": "I am so sorry."}],
                negative=[{"role": "user", "content": f"Where is refund {index}?"}, {"role": "assistant", "content": "Pending."}],
                locale=contrast_set.locales[0],
                product="billing",
                digest=digest_of("pair", contrast_set.name, index),
                prompt_key=digest_of("prompt", contrast_set.name, index),
            )
            for contrast_set in self.contrast_sets
            for index in range(2)
        )
        return copy_records(self.contrast_sets) + copy_records(pairs)

    def _write_suites(self) -> int:
        kinds = ("behaviour", "factual", "safety", "fluency", "capability")
        self.suites = [
            EvalSuite(
                name=f"{kind}-{axis}",
                version=1,
                kind=kind,
                digest=digest_of("suite", kind, axis),
                item_count=200,
                axis=axis if kind == "behaviour" else "",
                rubric_digest=digest_of("rubric", axis) if kind == "behaviour" else "",
                author=self.ada,
            )
            for kind in kinds
            for axis in AXES
        ]
        return copy_records(self.suites)

    def _job(self, kind: JobKind, base_model: BaseModel, number: int, **inputs: Any) -> Job:
        now = timezone.now()
        return Job(
            kind=kind,
            state=JobState.SUCCEEDED,
            recipe={"method": "mean_difference", "site": "resid_post", "seed": number},
            base_model=base_model,
            attempt=1,
            progress_done=100,
            progress_total=100,
            result_digest=digest_of(kind, number),
            requested_by=self.ada,
            requested_at=self._moment(number),
            started_at=now,
            finished_at=now,
            **inputs,
        )

    def _moment(self, number: int) -> datetime:
        """A minute for each, the first the longest ago: a record grows over months and not in one transaction."""
        return self.filled_at - timedelta(minutes=self.scale.vectors - number)

    def _write_extractions(self) -> int:
        """One vector in ten was extracted here; the others were imported."""
        self.extractions = [
            self._job(JobKind.EXTRACTION, self._base_model(number), number, contrast_set=self._contrast_set(number))
            for number in range(self.scale.vectors // VERSIONS)
        ]
        return copy_records(self.extractions) + self._link_suites(self.extractions)

    def _link_suites(self, jobs: list[Job]) -> int:
        through = Job.suites.through
        return copy_records(through(job=job, evalsuite=suite) for job in jobs for suite in self.suites[:: len(AXES)][:3])

    def _base_model(self, number: int) -> BaseModel:
        return self.base_models[number % len(self.base_models)]

    def _contrast_set(self, number: int) -> ContrastSet:
        return self.contrast_sets[number % len(self.contrast_sets)]

    def _write_vectors(self) -> int:
        self.vectors = [
            self._vector(number, version) for number in range(self.scale.vectors // VERSIONS) for version in range(1, VERSIONS + 1)
        ]
        return copy_records(self.vectors)

    def _vector(self, number: int, version: int) -> SteeringVector:
        return SteeringVector(
            name=vector_name(number),
            version=version,
            base_model=self._base_model(number),
            contrast_set=self._contrast_set(number),
            job=self.extractions[number] if version == 1 else None,
            digest=digest_of("vector", number, version),
            size_bytes=16_896,
            dtype="F32",
            d_model=4096,
            layer=self.random.randrange(32),
            site=self.random.choice(SITES),
            method=self.random.choice(METHODS),
            read_position="last_prompt_token",
            norm=Decimal(self.random.randrange(10_000, 30_000)) / 1000,
            mean_residual_norm=Decimal(self.random.randrange(150_000, 300_000)) / 1000,
            proposed_alpha=Decimal("0.5") if version == 1 else None,
            proposed_unit="mean_difference" if version == 1 else "",
            sweep_digest=digest_of("sweep", number) if version == 1 else "",
            author=self.ada,
        )

    def _evaluated(self) -> list[SteeringVector]:
        """The first version of a vector for every profile."""
        return self.vectors[: self.scale.profiles * VERSIONS : VERSIONS]

    def _write_validations(self) -> int:
        self.validations = [
            self._job(JobKind.VALIDATION, vector.base_model, number, vector=vector) for number, vector in enumerate(self._evaluated())
        ]
        return copy_records(self.validations) + self._link_suites(self.validations)

    def _write_evaluations(self) -> int:
        self.evaluations = [
            Evaluation(
                vector=job.vector,
                job=job,
                alpha=Decimal("0.5"),
                unit="mean_difference",
                digest=digest_of("evaluation", number),
                metrics={"behaviour": {"baseline": "1.4", "steered": "4.2"}, "factual": {"baseline": "0.95", "steered": "0.94"}},
                gates=[{"metric": "factual", "threshold": "0.9", "value": "0.94", "verdict": "pass"}],
                verdict="pass",
                evaluated_at=self._moment(number),
            )
            for number, job in enumerate(self.validations)
        ]
        return copy_records(self.evaluations)

    def _write_profiles(self) -> int:
        self.profiles = [
            Profile(
                name=profile_name(number),
                intent=f"Replies of kind {number}, warm and still correct.",
                purpose="tone",
                axis=AXES[number % len(AXES)],
                risk_class_id=RISK_CLASSES[number % len(RISK_CLASSES)],
                owner=self.ada,
            )
            for number in range(self.scale.profiles)
        ]
        self.evaluation_of = {profile.pk: evaluation for profile, evaluation in zip(self.profiles, self.evaluations, strict=True)}
        return copy_records(self.profiles)

    def _write_revisions(self) -> int:
        self.revisions = [
            ProfileRevision(profile=profile, number=number, author=self.ada, base_model=evaluation.vector.base_model, rationale="Measured.")
            for index, (profile, evaluation) in enumerate(zip(self.profiles, self.evaluations, strict=True))
            for number in ((1, 2) if index % DRAFT_EVERY == 0 else (1,))
        ]
        return copy_records(self.revisions)

    def _write_components(self) -> int:
        self.component_of = {
            revision.pk: Component(
                revision=revision,
                position=0,
                vector=self.evaluation_of[revision.profile_id].vector,
                alpha=Decimal("0.5"),
                alpha_min=Decimal(0),
                alpha_max=Decimal(1),
                unit="mean_difference",
            )
            for revision in self.revisions
        }
        return copy_records(self.component_of.values())

    def _submit_revisions(self) -> int:
        """Every first revision. What was demanded, how far it goes and its digest are what the registry itself makes of them."""
        policies = {policy.name: policy for policy in RiskPolicy.objects.all()}
        self.approved = [revision for revision in self.revisions if revision.number == 1]
        for revision in self.approved:
            policy = policies[revision.profile.risk_class_id]
            revision.demands = policy_document(policy)
            for peak, value in measure_peaks([self.component_of[revision.pk]]).items():
                setattr(revision, peak, value)
            revision.evaluation, revision.submission = self.evaluation_of[revision.profile_id], 1
            revision.digest = sha256_hex(canonical_json(revision_document(revision)))
            revision.state, revision.submitted_at = RevisionState.SUBMITTED, self.filled_at
        peaks = [field.name for field in ProfileRevision._meta.fields if field.name.startswith("peak_")]
        columns = ["demands", "evaluation", "submission", "digest", "state", "submitted_at", *peaks]
        return ProfileRevision.objects.bulk_update(self.approved, columns, batch_size=500)

    def _approve_revisions(self) -> int:
        count = copy_records(
            Approval(
                revision=revision,
                revision_digest=revision.digest,
                evidence_digest=revision.evaluation.digest,
                author=self.ada,
                author_person=self.ada.pk,
                reviewer=reviewer,
                reviewer_person=reviewer.pk,
                roles=["approver"],
                decision="approve",
                comment="Read the replies; they are warm and right.",
            )
            for revision in self.approved
            for reviewer in self.reviewers[: revision.demands["approvals_needed"]]
        )
        for revision in self.approved:
            revision.state, revision.decided_at = RevisionState.APPROVED, self.filled_at
            revision.review_due_at = self.filled_at + timedelta(days=revision.demands["review_after_days"])
        ProfileRevision.objects.bulk_update(self.approved, ["state", "decided_at", "review_due_at"], batch_size=500)
        return count

    def _write_tenants(self) -> int:
        self.tenants = [Tenant(name=tenant_name(number), title=f"Tenant {number}") for number in range(self.scale.tenants)]
        return copy_records(self.tenants)

    def _write_flags(self) -> int:
        numbers = count()
        self.flags = [
            TenantFlag(
                environment=environment,
                tenant=tenant,
                route=route_name(route),
                revision=self.live_revisions(place)[number % self.scale.live_profiles],
                enabled=number % OFF_EVERY != 0,
                alpha_scale=Decimal(self.random.randrange(1, 20)) / 10,
                reason="Part of the measured world.",
                changed_by=self.oscar,
            )
            for place, environment in enumerate(self.environments)
            for tenant in self.tenants
            for route in range(self.scale.routes)
            for number in [next(numbers)]
        ]
        return copy_records(self.flags)

    def live_revisions(self, place: int) -> list[ProfileRevision]:
        """What steers in one environment. Environments share none, so that no cache of one helps another."""
        start = place * self.scale.live_profiles
        return (self.approved * len(ENVIRONMENTS))[start : start + self.scale.live_profiles]

    def publish(self) -> int:
        """One change through the service in each environment: what nodes would be given now."""
        for flag in self.flags[:: len(self.tenants) * self.scale.routes]:
            set_flag(
                flag.environment,
                flag.tenant,
                route=flag.route,
                revision=flag.revision,
                enabled=True,
                alpha_scale=Decimal(1),
                reason="Publish the filled record.",
                actor=self.oscar,
            )
        return Environment.objects.count()

    def analyze(self) -> None:
        """What autovacuum would have done to a record that grew over years."""
        with as_owner(), connection.cursor() as cursor:
            cursor.execute("VACUUM ANALYZE")
