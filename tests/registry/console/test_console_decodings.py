"""What a job asks the model with, and how it chooses the replies that are judged: asked for in forms, and shown where evidence is read."""

import pytest
from django.urls import reverse

from registry.blobs import put_blob
from registry.models import Evaluation, Job, SteeringVector
from registry.services.profiles import draft_revision
from steernode.canonical import canonical_json
from tests.support.components import add
from tests.support.unopened import fresh_suites
from tests.support.world import unguarded

DRAWN = {"replies": "drawn", "temperature": "0.7", "top_p": "0.95", "seeds": "0, 1, 2"}
STATED = {"temperature": "0.7", "top_p": "0.95", "seeds": [0, 1, 2]}


@pytest.fixture
def asked(base_model, contrast_set, suites):
    chosen = {suite.kind: str(suite.pk) for suite in suites}
    return {"vector": "drawn", "base_model": base_model.pk, "contrast_set": contrast_set.pk, "layers": "1, 2", **chosen}


def test_an_extraction_is_asked_for_with_both(as_person, ada, asked):
    data = {**asked, **DRAWN, "template_arguments": '{"enable_thinking": false, "date_string": "26 Jul 2024"}'}
    page = as_person(ada).post(reverse("console:start-extraction"), data, follow=True)
    recipe = Job.objects.get().recipe
    assert recipe["decoding"] == STATED
    assert recipe["template_arguments"] == {"date_string": "26 Jul 2024", "enable_thinking": False}
    assert "enable_thinking = false" in page.text
    for words in ("temperature 0.7", "top p 0.95", "seeds 0, 1, 2"):
        assert words in page.text


def test_what_is_left_empty_is_greedy_and_adds_nothing_to_the_template(as_person, ada, asked):
    as_person(ada).post(reverse("console:start-extraction"), asked)
    recipe = Job.objects.get().recipe
    assert (recipe["decoding"], recipe["template_arguments"]) == ("greedy", {})


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"temperature": "0"}, "decoding.temperature"),
        ({"temperature": "0,7"}, "decoding.temperature"),
        ({"temperature": ""}, "decoding.temperature"),
        ({"top_p": "1.5"}, "decoding.top_p"),
        ({"seeds": ""}, "decoding.seeds"),
        ({"seeds": "1, 1"}, "decoding.seeds"),
        ({"seeds": "one"}, "decoding.seeds[0]"),
        ({"replies": "greedy"}, "This is of replies that are drawn"),
        ({"replies": "hot"}, "hot"),
        ({"template_arguments": "enable_thinking"}, "Template arguments"),
        ({"template_arguments": '{"messages": "x"}'}, "RECIPE_TEMPLATE_ARGUMENTS"),
        ({"template_arguments": '{"x": 0.5}'}, "template_arguments.x"),
    ],
)
def test_what_cannot_be_read_comes_back_as_it_was_typed(as_person, ada, asked, changes, said):
    page = as_person(ada).post(reverse("console:start-extraction"), {**asked, **DRAWN, **changes})
    assert page.status_code == 200
    assert said in page.text
    assert 'value="drawn"' in page.text
    assert not Job.objects.exists()


def test_a_validation_and_a_composition_are_asked_for_with_it(as_person, ada, vector, suites, evaluate, brevity, component, profile):
    evaluate(vector)
    revision = draft_revision(profile, components=[component, add(brevity, "0.3")], author=ada)
    for kind, address in (("composition", ["compose-revision", revision.pk]), ("validation", ["validate-vector", vector.pk])):
        chosen = {suite.kind: str(suite.pk) for suite in fresh_suites(suites, ada)}
        as_person(ada).post(reverse(f"console:{address[0]}", args=address[1:]), {**chosen, **DRAWN})
        assert Job.objects.filter(kind=kind).latest("requested_at").recipe["decoding"] == STATED


def test_who_reads_evidence_is_told_how_its_replies_were_chosen(as_person, grace, vector, evaluation, submitted):
    run = {"decoding": STATED, "template_arguments": {"enable_thinking": False}}
    digest = put_blob(canonical_json({"run": run}))
    with unguarded("registry_evaluation"):
        Evaluation.objects.filter(pk=evaluation.pk).update(digest=digest)
    SteeringVector.objects.filter(pk=vector.pk).update(template_arguments={"enable_thinking": False})
    for where in (reverse("console:vector", args=[vector.pk]), reverse("console:revision", args=[submitted.pk])):
        text = as_person(grace).get(where).text
        assert "drawn at temperature 0.7, top-p 0.95, seeds 0, 1, 2" in text
        assert "enable_thinking = false" in text
