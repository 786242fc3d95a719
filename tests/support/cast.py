"""The fixed cast and the sealed world that tests of the registry share.

ada writes, grace approves, mary approves too, oscar operates, iris audits, root administers. The world is Harbor Support
in small: a model folder of a few bytes, four contrast pairs, three suites, one vector, its evaluation, and a profile.
"""

import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from uuid import uuid4

import pytest
from rest_framework.test import APIClient

from steernode.gates import load_gates
from steernode.records.evidence import read_evidence
from tests.support.files import composition_evidence, make_suite, pairs_file, rubric_file, vector_file, write_model_folder
from tests.support.prompts import prompt_file, prompt_rows
from tests.support.unopened import unopened_suites


@pytest.fixture(scope="session")
def model_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """STEERHUB_MODEL_ROOT of every test, with the folder `harbor` in it."""
    root = tmp_path_factory.mktemp("models")
    write_model_folder(root / "harbor")
    return root


@pytest.fixture(autouse=True)
def _own_folders(settings, tmp_path: Path, model_root: Path) -> None:
    """Nothing a test stores or sends reaches the checkout's var folder."""
    settings.STEERHUB_BLOB_URL = (tmp_path / "blobs").as_uri()
    settings.STEERHUB_MODEL_ROOT = model_root
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture(autouse=True, scope="session")
def _static_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """WhiteNoise warns when the folder that collectstatic makes is not there."""
    from django.conf import settings

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(settings, "STATIC_ROOT", tmp_path_factory.mktemp("static"))
        yield


@pytest.fixture(autouse=True)
def _few_items_will_do(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The world in small has two items of each kind, which show no bound at all; only a test marked `power` is about that."""
    if request.node.get_closest_marker("power") is None:
        monkeypatch.setattr("registry.services.power.foresee", lambda *asked: [])


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker) -> Iterator[dict]:
    """Gives the rows of a new registry, by model, as the migrations made them.

    The pool cleans a connection in another thread before it has it back. One that is under way when the pool is closed would
    stay open, and a database is not dropped while somebody is connected.
    """
    from django.contrib.auth.models import Group
    from django.db import connection

    from registry.models import RiskPolicy

    with django_db_blocker.unblock():
        # The world in small has four pairs, and tries every α.
        RiskPolicy.objects.update(minimum_pairs=2, alpha_cap_absolute=1000, alpha_cap_mean_difference=2, alpha_cap_residual=1)
        first_rows = {model: list(model.objects.all()) for model in (Group, RiskPolicy)}
    yield first_rows
    connection.close()
    pool = connection.pool
    until = time.monotonic() + 10
    while (stats := pool.get_stats())["pool_available"] < stats["pool_size"] and time.monotonic() < until:
        time.sleep(0.01)


@pytest.fixture(autouse=True, scope="session")
def _flush_may_empty() -> Iterator[None]:
    """A transactional test ends with a TRUNCATE of all tables, which the guards refuse. Only the owner of the tables can lay them aside."""
    from django.db.backends.postgresql.operations import DatabaseOperations

    empty = DatabaseOperations.sql_flush

    def empty_unguarded(self: DatabaseOperations, *args, **options) -> list[str]:
        with self.connection.cursor() as cursor:
            cursor.execute("SELECT tgrelid::regclass, tgname FROM pg_trigger WHERE tgtype & 32 <> 0 AND tgname LIKE '%_is_never_emptied'")
            guards = [f"ALTER TABLE {table} %s TRIGGER {name};" for table, name in cursor.fetchall()]
        return [*(each % "DISABLE" for each in guards), *empty(self, *args, **options), *(each % "ENABLE ALWAYS" for each in guards)]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DatabaseOperations, "sql_flush", empty_unguarded)
        yield


@pytest.fixture(autouse=True, scope="session")
def _memory_broker() -> Iterator[None]:
    from steerhub.celery import app

    before = app.conf.broker_url, app.conf.broker_transport_options
    app.conf.broker_url, app.conf.broker_transport_options = "memory://", {}
    yield
    app.conf.broker_url, app.conf.broker_transport_options = before


# -- The cast -------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def person(db, django_db_setup) -> Callable:
    """Make somebody: person("ada", "author")."""
    from registry.services.people import create_user

    # A transactional test truncates them.
    for model, rows in django_db_setup.items():
        model.objects.bulk_create(rows, ignore_conflicts=True)
    return lambda name, *roles, acts_for=None: create_user(name, roles=list(roles), actor="tests", acts_for=acts_for)


@pytest.fixture
def ada(person):
    """The author."""
    return person("ada", "author")


@pytest.fixture
def grace(person):
    """An approver."""
    return person("grace", "approver")


@pytest.fixture
def mary(person):
    """The other approver."""
    return person("mary", "approver")


@pytest.fixture
def oscar(person):
    """The operator."""
    return person("oscar", "operator")


@pytest.fixture
def iris(person):
    """The auditor."""
    return person("iris", "auditor")


@pytest.fixture
def root(person):
    """The administrator of people, who may decide nothing else."""
    return person("root", "admin")


class Api(APIClient):
    """A client that sends JSON, and each change under a new Idempotency-Key, as `steer` does."""

    default_format = "json"
    says_yes = True

    def generic(self, method: str, path: str, *args, **options):
        if method in ("POST", "PUT", "DELETE") and "Idempotency-Key" not in (options.get("headers") or {}):
            options.setdefault("HTTP_IDEMPOTENCY_KEY", str(uuid4()))
        return super().generic(method, path, *args, **options)

    def put(self, path: str, data=None, **options):
        """As `steer --yes` does: what raises is planned, and sent again with the digest of the plan."""
        return self._confirm(super().put, path, data, options)

    def post(self, path: str, data=None, **options):
        return self._confirm(super().post, path, data, options)

    def _confirm(self, send: Callable, path: str, data, options: dict):
        answer = send(path, data, **options)
        if answer.status_code != 428 or answer.json()["code"] != "CONFIRMATION_NEEDED" or not self.says_yes:
            return answer
        plan = super().post(f"{path}/plan", data)
        return send(path, {**data, "confirm": plan.json()["digest"]}, **options)

    def upload(self, data: bytes) -> str:
        """Store bytes as a blob and give their digest."""
        answer = self.post("/api/v1/blobs", data=data, content_type="application/octet-stream")
        assert answer.status_code == 201, answer.content
        return answer.json()["digest"]


@pytest.fixture
def api(db) -> Callable[..., Api]:
    """A client with its own API token: api(ada). api() is nobody."""
    from registry.services.people import issue_token

    secrets: dict[int, str] = {}

    def client(user=None) -> Api:
        client = Api()
        if user is not None:
            if user.pk not in secrets:
                secrets[user.pk] = issue_token(user, name="tests", actor="tests")[1]
            client.credentials(HTTP_AUTHORIZATION=f"Bearer {secrets[user.pk]}")
        return client

    return client


# -- The sealed world -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def base_model(ada):
    """Four layers, d_model 64; served by every environment that is there already, and by those that are made later."""
    from registry.models import Environment
    from registry.services.base_model_moves import move_environment
    from registry.services.base_models import register_base_model

    registered = register_base_model("harbor-support", source="harbor", actor=ada)
    for environment in Environment.objects.order_by("pk"):
        move_environment(environment, base_model=registered, actor=ada)
    return registered


@pytest.fixture
def contrast_set(ada):
    from registry.services.contrast import seal_contrast_set

    return seal_contrast_set("empathy", axis="empathy", data=pairs_file(), author=ada)


@pytest.fixture
def prompt_set(ada):
    """Prompts of refunds and of parcels, twenty of each in each split."""
    from registry.services.prompts import seal_prompt_set

    return seal_prompt_set("intents", data=prompt_file(prompt_rows(positive="refund", negative="parcel")), author=ada)


@pytest.fixture
def train_probe(ada, base_model, prompt_set) -> Callable:
    """A probe of refunds at layer 1, below the vector: train_probe(threshold="2", layer=2)."""
    from registry.services.probes import request_probe
    from tests.support.working import train

    def run(name: str = "refund-intent", *, base=base_model, layer: int = 1, threshold: str = "0.2", **recipe):
        asked = {"probe": name, "intent": "refund", "layers": [layer], **recipe}
        job = request_probe(base_model=base, prompt_set=prompt_set, recipe=asked, actor=ada)
        return train(job, layer=layer, threshold=threshold)

    return run


@pytest.fixture
def suites(ada) -> list:
    """One of each kind that a job needs."""
    from registry.services.evals import seal_eval_suite

    return [
        seal_eval_suite("tickets", kind="behaviour", data=make_suite("behaviour"), rubric=rubric_file(), author=ada),
        seal_eval_suite("facts", kind="factual", data=make_suite("factual"), author=ada),
        seal_eval_suite("refusals", kind="safety", data=make_suite("safety"), author=ada),
    ]


@pytest.fixture
def vector(ada, base_model, contrast_set):
    """An imported vector at layer 2."""
    from registry.services.vectors import import_vector

    return import_vector("empathy", data=vector_file(base_model.fingerprint, contrast_set.digest), author=ada)


@pytest.fixture
def evaluate(ada, suites) -> Callable:
    """Open a vector's test split with this outcome: evaluate(vector, passed=False), or evaluate(vector, undecidable=("slope",)). What the
    evidence was held to is `gates`, a set that ships or a list."""
    from registry.services.job_requests import request_validation
    from registry.services.jobs import claim_job
    from registry.services.results import complete_validation

    def run(vector, *, alpha: str = "0.5", unit: str = "mean_difference", passed: bool = True, undecidable=(), gates="default"):
        asked = {"vector": vector, "actor": ada, "alpha": Decimal(alpha), "unit": unit}
        job = request_validation(suites=unopened_suites(suites, vector, ada), **asked)
        verdict = "pass" if passed else "fail"
        judged = [{**gate, "value": gate["threshold"], "verdict": verdict} for gate in load_gates(gates)]
        for gate in judged:
            if passed and gate["metric"] in undecidable:
                verdict = "undecidable"
                gate |= {"verdict": verdict, "code": "ITEMS_FEW", "note": f"more items are needed for {gate['metric']}"}
        evidence = {
            "schema": "steerhub.evidence/1",
            "vector": vector.digest,
            "alpha": alpha,
            "unit": unit,
            "metrics": {"behaviour": {"baseline": "1.4", "steered": "4.2"}, "factual": {"baseline": "0.95", "steered": "0.94"}},
            "gates": judged,
            "verdict": verdict,
        }
        return complete_validation(claim_job(job.pk, worker="worker-1"), read_evidence(evidence))

    return run


@pytest.fixture
def evaluation(vector, evaluate):
    """The vector at α = 0.5 mean differences passes its gates."""
    return evaluate(vector)


@pytest.fixture
def policy_terms(db) -> Callable:
    """Terms of a policy, as loose as the registry's own `low` but for what is given: policy_terms(minimum_pairs=500)."""
    from registry.services.policies import PolicyTerms

    caps = {"absolute": Decimal(1000), "mean_difference": Decimal(2), "residual": Decimal(1)}
    low = {
        "composition_budget": Decimal(1), "suite_kinds": ["behaviour", "factual", "safety"], "gate_set": "selection", "minimum_pairs": 2,
        "locales": [], "evidence_max_age_days": 365, "approvals_needed": 1, "reviewer_roles": ["approver"], "approval_valid_days": 30,
        "review_after_days": 365,
    }  # fmt: skip

    def make(*, alpha_caps: dict | None = None, **changes) -> PolicyTerms:
        return PolicyTerms(**{**low, "alpha_caps": {**caps, **(alpha_caps or {})}, **changes})

    return make


@pytest.fixture
def profile(ada):
    from registry.services.profiles import create_profile

    return create_profile("harbor-empathy", intent="Warm billing replies.", purpose="tone", axis="empathy", risk_class="low", owner=ada)


@pytest.fixture
def component(vector):
    """α = 0.5 in 0 to 0.5 mean differences, as it was evaluated."""
    from tests.support.components import add

    return add(vector, "0.5")


@pytest.fixture
def draft(ada, profile, component):
    from registry.services.profiles import draft_revision

    return draft_revision(profile, components=[component], author=ada, rationale="The search proposes it.")


@pytest.fixture
def brevity(ada, base_model, contrast_set, evaluate):
    """A second vector at layer 2 that passes its gates alone."""
    from registry.services.vectors import import_vector

    vector = import_vector("brevity", data=vector_file(base_model.fingerprint, contrast_set.digest, seed=8), author=ada)
    evaluate(vector, alpha="0.3")
    return vector


@pytest.fixture
def combined(ada, profile, component, evaluation, brevity):
    """A draft of two components, each of which passes alone."""
    from registry.services.profiles import draft_revision
    from tests.support.components import add

    return draft_revision(profile, components=[component, add(brevity, "0.3")], author=ada)


@pytest.fixture
def compose(ada, suites) -> Callable:
    """Judge a draft's components together with this outcome: compose(revision, passed=False), or undecidable=("facts",)."""
    from registry.services.compositions import request_composition
    from registry.services.jobs import claim_job
    from registry.services.results import complete_composition

    def run(revision, *, passed: bool = True, undecidable=()):
        job = request_composition(revision=revision, suites=suites, actor=ada)
        evidence = composition_evidence(job, passed=passed, undecidable=undecidable)
        return complete_composition(claim_job(job.pk, worker="worker-1"), evidence)

    return run


@pytest.fixture
def submitted(ada, draft, evaluation):
    from registry.services.profiles import submit_revision

    return submit_revision(draft.pk, evaluation=evaluation, actor=ada)


@pytest.fixture
def approved(submitted, grace):
    from registry.services.approvals import approve_revision

    digests = {"revision_digest": submitted.digest, "evidence_digest": submitted.evaluation.digest}
    return approve_revision(submitted.pk, reviewer=grace, comment="Read the replies; they are warm and right.", **digests)


@pytest.fixture
def also_approved(ada, grace, approved, component):
    """Revision 1 of harbor-brevity, approved too."""
    from registry.services.approvals import approve_revision
    from registry.services.profiles import create_profile, draft_revision, submit_revision

    profile = create_profile("harbor-brevity", intent="Short.", purpose="tone", axis="brevity", risk_class="low", owner=ada)
    revision = draft_revision(profile, components=[component], author=ada)
    revision = submit_revision(revision.pk, evaluation=approved.evaluation, actor=ada)
    digests = {"revision_digest": revision.digest, "evidence_digest": revision.evaluation.digest}
    return approve_revision(revision.pk, reviewer=grace, comment="fine", **digests)


@pytest.fixture
def production(oscar):
    """The environment `production`, at revision 1, steering nobody."""
    from registry.services.tenants import create_environment

    return create_environment("production", actor=oscar)


@pytest.fixture
def harbor(oscar):
    from registry.services.tenants import create_tenant

    return create_tenant("harbor", title="Harbor Support", actor=oscar)


@pytest.fixture
def atlas(oscar):
    from registry.services.tenants import create_tenant

    return create_tenant("atlas", actor=oscar)


@pytest.fixture
def known_salt(monkeypatch) -> str:
    """The salt of every rollout and test that starts. In harbor user-1 is at 58.991 %, user-2 at 8.053 %; of the arms warm and control
    with one part each, user-1 falls to warm and user-2 to control."""
    monkeypatch.setattr("registry.services.salts.token_hex", lambda _size: "test-2")
    return "test-2"


@pytest.fixture
def flag_on(production, harbor, approved, oscar):
    """harbor is steered by the approved revision in production."""
    from registry.services.flags import set_flag

    return set_flag(production, harbor, revision=approved, enabled=True, alpha_scale=Decimal(1), reason="go", actor=oscar)


@pytest.fixture
def node(production, oscar):
    """(the node `node-1` of production, its token)."""
    from tests.support.nodes import enroll

    return enroll("node-1", environment=production, actor=oscar)
