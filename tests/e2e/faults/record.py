"""The record that the faults are played on: three tenants of production, each steered on the demo's model by an approved revision.

    STEERHUB_VAR=… python -m tests.e2e.faults.record

harbor is steered by `warm`, which is neutral once the hub is lost for STALE_SECONDS; atlas by `steady`, which is kept; reef by `fading`,
whose schedule not every engine can follow. The vector is a random direction and its evaluation is written here: what is played is the road
of a stop, not what steering does.
"""

import json
import os
from decimal import Decimal
from pathlib import Path

import django

STALE_SECONDS = 6
D_MODEL = 192
TENANTS = {"harbor": "warm", "atlas": "steady", "reef": "fading"}
PROFILES = {
    "warm": ({}, {"stale_policy": "zero", "max_staleness_seconds": STALE_SECONDS}),
    "steady": ({}, {"stale_policy": "keep", "max_staleness_seconds": STALE_SECONDS}),
    "fading": ({"schedule": {"kind": "linear", "tokens": 32}}, {"stale_policy": "zero", "max_staleness_seconds": STALE_SECONDS}),
}
NODES = ("node-1", "node-2")
# Who may stop without the hub.
NIGHT_SHIFT = "night shift"


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "steerhub.settings")
    django.setup()
    from django.conf import settings
    from django.core.management import call_command

    call_command("migrate", verbosity=0)
    write_record(settings.VAR_DIR)


def write_record(folder: Path) -> None:
    from registry.services.flags import set_flag
    from registry.services.nodes import invite_node
    from registry.services.people import create_user, issue_token
    from registry.services.tenants import create_environment, create_tenant
    from registry.snapshots import trust_document

    people = {name: create_user(name, roles=[role], actor="faults") for name, role in CAST.items()}
    tokens = {name: issue_token(user, name="faults", actor="faults")[1] for name, user in people.items()}
    revisions = approve_profiles(people)
    # It serves the base model that is registered by now.
    production = create_environment("production", actor=people["oscar"])
    for tenant, profile in TENANTS.items():
        row = create_tenant(tenant, actor=people["oscar"])
        set_flag(production, row, revision=revisions[profile], enabled=True, alpha_scale=Decimal(1), reason="go", actor=people["oscar"])
    nodes = {name: invite_node(name, environment=production, actor=people["oscar"])[1] for name in NODES}
    (folder / "trust.json").write_text(json.dumps(trust_document()))
    (folder / "tokens.json").write_text(json.dumps({"people": tokens, "nodes": nodes}))


CAST = {"ada": "author", "grace": "approver", "oscar": "operator", "olga": "operator", "iris": "auditor"}


def approve_profiles(people: dict) -> dict:
    """The approved first revision of each profile."""
    from registry.services.approvals import approve_revision
    from registry.services.base_models import register_base_model
    from registry.services.contrast import seal_contrast_set
    from registry.services.evals import seal_eval_suite
    from registry.services.job_requests import request_validation
    from registry.services.jobs import claim_job
    from registry.services.profiles import create_profile, draft_revision, submit_revision
    from registry.services.results import complete_validation
    from registry.services.vectors import import_vector
    from steernode.gates import load_gates
    from steernode.records.evidence import read_evidence
    from tests.support.components import add, restate
    from tests.support.files import make_enough, pairs_file, rubric_file, vector_file

    ada, grace = people["ada"], people["grace"]
    model = register_base_model("harbor-support", source="demo/model", actor=ada)
    pairs = seal_contrast_set("empathy", axis="empathy", data=pairs_file(200), author=ada)
    suites = [
        seal_eval_suite("tickets", kind="behaviour", data=make_enough("behaviour"), rubric=rubric_file(), author=ada),
        seal_eval_suite("facts", kind="factual", data=make_enough("factual"), author=ada),
        seal_eval_suite("refusals", kind="safety", data=make_enough("safety"), author=ada),
    ]
    vector = import_vector("empathy", data=vector_file(model.fingerprint, pairs.digest, size=D_MODEL), author=ada)
    job = request_validation(vector=vector, suites=suites, actor=ada, alpha=Decimal("0.5"), unit="mean_difference")
    evidence = {
        "schema": "steerhub.evidence/1",
        "vector": vector.digest,
        "alpha": "0.5",
        "unit": "mean_difference",
        "metrics": {"behaviour": {"baseline": "1.4", "steered": "4.2"}, "factual": {"baseline": "0.95", "steered": "0.94"}},
        "gates": [{**gate, "value": gate["threshold"], "verdict": "pass"} for gate in load_gates("default")],
        "verdict": "pass",
    }
    evaluation = complete_validation(claim_job(job.pk, worker="faults"), read_evidence(evidence))
    approved = {}
    for name, (changes, options) in PROFILES.items():
        profile = create_profile(name, intent="Warm replies.", purpose="tone", axis="empathy", risk_class="low", owner=ada)
        draft = draft_revision(profile, components=[restate(add(vector, "0.5"), **changes)], author=ada, **options)
        revision = submit_revision(draft.pk, evaluation=evaluation, actor=ada)
        digests = {"revision_digest": revision.digest, "evidence_digest": revision.evaluation.digest}
        approved[name] = approve_revision(revision.pk, reviewer=grace, comment="Read.", **digests)
    return approved


if __name__ == "__main__":
    main()
