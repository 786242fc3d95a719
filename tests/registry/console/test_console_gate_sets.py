"""Gate sets in the console: listed with their reasons, and offered wherever gates are chosen."""

from django.urls import reverse
from django.utils.html import escape

from registry.models import Job
from registry.services.gates import seal_gate_set
from steernode.gates import gate_sets, shipped_set

FACTS = {"metric": "facts", "kind": "min", "threshold": "0.9", "why": "Nine of ten."}


def test_every_set_is_offered_wherever_gates_are_chosen(as_person, ada, grace, vector, suites, base_model):
    tone = seal_gate_set("our-tone", about="Tone.", gates=[FACTS], author=grace)
    author, approver = as_person(ada), as_person(grace)
    pages = [author.get(reverse("console:vector", args=[vector.pk])), author.get(reverse("console:new-extraction"))]
    pages.append(approver.get(reverse("console:policy", args=["low"])))
    for page in pages:
        assert '<option value="our-tone@1">our-tone@1</option>' in page.text.replace("\n", "")
        assert 'value="style_small_suite"' in page.text
    listed = approver.get(reverse("admin:registry_gateset_changelist")).text
    assert "our-tone v1" in listed
    shown = approver.get(reverse("admin:registry_gateset_change", args=[tone.pk])).text
    assert "Facts</strong> at least 0.9<br>Nine of ten." in shown


def test_an_imported_vector_is_validated_against_the_set_that_is_chosen(as_person, ada, grace, vector, suites):
    seal_gate_set("our-tone", about="Tone.", gates=[FACTS], author=grace)
    data = {"alpha": "0.5", "unit": "", "gates": "our-tone@1", **{suite.kind: suite.pk for suite in suites}}
    as_person(ada).post(reverse("console:validate-vector", args=[vector.pk]), data)
    assert Job.objects.get(kind="validation").recipe["gate_set"]["name"] == "our-tone"


def test_the_sets_that_ship_are_listed_with_their_reasons_before_there_is_any_other(as_person, grace):
    listed = as_person(grace).get(reverse("admin:registry_gateset_changelist")).text
    for name in gate_sets():
        assert f"<summary>{name} v{shipped_set(name).version}</summary>" in listed
    assert all(escape(gate["why"]) in listed for gate in shipped_set("tone").reasoned)
