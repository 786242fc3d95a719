"""A line that is taken out of a manifest: back to its default, left as it is, or of no meaning any more; never a refusal."""

import copy
from contextlib import nullcontext, suppress

import pytest

from registry.errors import TransitionRefused
from registry.manifests.documents import ManifestsRefused
from registry.manifests.export import export_manifests
from registry.manifests.kinds import KINDS
from registry.models import Job
from registry.services.flags import ArmSpec
from registry.services.job_requests import request_extraction
from steernode.snapshot.records import AlphaBounds
from tests.support import story
from tests.support.declaring import manifest
from tests.support.unopened import fresh_suites


@pytest.fixture
def recipe(base_model, contrast_set, suites, profile):
    names = [suite.name for suite in suites]
    return {"baseModel": base_model.name, "contrastSet": "empathy", "suites": names, "profile": profile.name}


def left_out(recipe, **changes):
    return manifest("SteeringVector", "warm", recipe={name: value for name, value in recipe.items() if name != "profile"} | changes)


def test_the_profile_of_a_recipe_can_be_left_out_once_its_job_knows_it(plan, apply, recipe):
    apply([manifest("SteeringVector", "warm", recipe=recipe)])
    (step,) = plan([left_out(recipe)]).steps
    assert (step.action, step.changes) == ("no-op", ())
    assert step.note.startswith("spec.recipe.profile stays harbor-empathy")
    assert plan([manifest("SteeringVector", "warm", recipe=recipe)]).steps[0].note == ""
    apply([left_out(recipe), manifest("Tenant", "harbor")])
    assert Job.objects.count() == 1


def test_with_another_setting_it_makes_another_version_without_a_draft(plan, apply, recipe):
    apply([manifest("SteeringVector", "warm", recipe=recipe)])
    (step,) = plan([left_out(recipe, finalists=1)]).steps
    assert (step.action, [change.field for change in step.changes], step.note) == ("update", ["spec.recipe.finalists"], "")


def test_so_it_can_once_the_vector_is_sealed_and_another_profile_is_a_wish_that_nobody_can_grant(
    plan, apply, base_model, contrast_set, suites, ada, profile
):
    story.extract_vector(base_model=base_model, contrast_set=contrast_set, suites=suites, author=ada, heatmap=story.make_png())
    Job.objects.update(draft_for=profile)
    apply([manifest("SteeringProfile", "other", intent="x", purpose="tone", axis="empathy", riskClass="low")])
    (document,) = export_manifests(kinds=["SteeringVector"])
    assert document["spec"]["recipe"].pop("profile") == "harbor-empathy"
    (step,) = plan([document]).steps
    assert (step.action, step.note != "") == ("no-op", True)
    document["spec"]["recipe"]["profile"] = "other"
    with pytest.raises(TransitionRefused) as caught:
        plan([document])
    assert caught.value.code == "MANIFEST_SUPERSEDED"


@pytest.mark.django_db(transaction=True)
def test_the_note_is_shown_where_nothing_changes(steer, tmp_path, apply, recipe):
    import yaml

    apply([manifest("SteeringVector", "warm", recipe=recipe)])
    (tmp_path / "m.yaml").write_text(yaml.safe_dump(left_out(recipe)))
    result = steer("plan", "-f", tmp_path)
    assert result.exit_code == 0
    assert "= SteeringVector warm  (spec.recipe.profile stays harbor-empathy" in result.output


def optional_lines(schema, value, path=()):
    """The path of every line in a spec that its schema does not need."""
    for branch in schema.get("oneOf", [schema]):
        for name, field in branch.get("properties", {}).items():
            if isinstance(value, dict) and name in value:
                if name not in branch.get("required", ()) and branch.get("format") != "uploaded":
                    yield (*path, name)
                yield from optional_lines(field, value[name], (*path, name))
        for position, item in enumerate(value if isinstance(value, list) and "items" in branch else ()):
            yield from optional_lines(branch["items"], item, (*path, position))


# One of these without the other names nothing.
PAIRS = ("profile", "revision")


def test_every_optional_line_of_every_kind_can_be_left_out(plan, flag_on, approved, base_model, contrast_set, suites, ada, oscar, profile):
    from decimal import Decimal

    from registry.services.flags import set_flag

    new = fresh_suites(suites, ada)
    request_extraction(
        base_model=base_model, contrast_set=contrast_set, suites=new, recipe={"vector": "warm"}, actor=ada, draft_for=profile
    )
    arms = [ArmSpec("now", 1, approved, Decimal("0.5")), ArmSpec("control", 1, alpha_scale=Decimal(0))]
    set_flag(
        flag_on.environment, flag_on.tenant, enabled=True, reason="all of it", actor=oscar, rollout=Decimal(50), arms=arms,
        override=AlphaBounds(Decimal(0), Decimal("0.1")),
    )  # fmt: skip
    documents, left = export_manifests(), set()
    for position, document in enumerate(documents):
        kind = KINDS[document["kind"]]
        for path in optional_lines(kind.spec, document.get("spec", {})):
            changed = copy.deepcopy(documents)
            holder = changed[position]["spec"]
            for step in path[:-1]:
                holder = holder[step]
            del holder[path[-1]]
            with suppress(ManifestsRefused) if path[-1] in PAIRS else nullcontext():
                plan(changed)
            left.add((kind.name, path[-1]))
    assert {("SteeringVector", "profile"), ("BaseModel", "fingerprint"), ("Environment", "baseModels"), ("EvalSuite", "rubric")} <= left
    assert {("SteeringProfile", "revision"), ("Tenant", "title"), ("TenantFlag", "override"), ("TenantFlag", "arms")} <= left
