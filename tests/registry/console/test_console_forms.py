"""What all forms of the console owe to who fills them in: an order, all words of a choice, and labels that lead to their own fields."""

import re
from collections import Counter

import pytest
from django.urls import reverse

from registry.console.forms.decoding import DecodingForm
from registry.console.forms.extractions import ExtractionForm
from registry.console.forms.vectors import ValidationForm
from registry.models import Job
from tests.support.families import add_form

LAST = ["replies", "temperature", "top_p", "seeds", "again"]


@pytest.fixture
def vector_page(as_person, ada, vector, profile, base_model, model_root):
    add_form(base_model, "harbor-small", model_root, ada, verdict="quantised", worst="0.0714")
    return as_person(ada).get(reverse("console:vector", args=[vector.pk])).text


def test_what_a_job_cannot_do_without_is_asked_first_and_how_replies_are_drawn_last(suites):
    assert list(ExtractionForm().fields)[:3] == ["vector", "base_model", "contrast_set"]
    for form in (ExtractionForm(), ValidationForm(), DecodingForm()):
        names = list(form.fields)
        assert names[-5:] == LAST
        assert names.index("safety") < names.index("replies")


def test_an_extraction_may_run_the_model_in_another_dtype_than_its_own(as_person, ada, base_model, contrast_set, suites):
    asked = {"vector": "empathy", "base_model": base_model.pk, "contrast_set": contrast_set.pk, "layers": "1, 2"}
    asked |= {suite.kind: suite.pk for suite in suites}
    for model_dtype, kept in (("", "float32"), ("auto", "float32"), ("bfloat16", "bfloat16")):
        as_person(ada).post(reverse("console:start-extraction"), {**asked, "model_dtype": model_dtype})
        assert Job.objects.first().recipe["model_dtype"] == kept
    refused = as_person(ada).post(reverse("console:start-extraction"), {**asked, "model_dtype": "int4"})
    assert "int4" in refused.text
    assert Job.objects.count() == 3


def test_a_form_that_may_be_covered_is_offered_with_all_its_figures_and_a_box_of_its_own(vector_page):
    assert 'type="checkbox" name="covers"' in vector_page
    assert "quantised, off by at most 0.0714 of the largest weight of a tensor" in vector_page
    assert "<legend>Covers too" in vector_page


def test_no_two_fields_of_a_page_have_one_id_and_every_label_and_description_leads_somewhere(vector_page):
    ids = Counter(re.findall(r'\bid="([^"]+)"', vector_page))
    assert [name for name, count in ids.items() if count > 1 and name.startswith("id_")] == []
    led = re.findall(r'<label for="(id_[^"]*)"', vector_page) + re.findall(r'aria-describedby="(id_[^" ]*)"', vector_page)
    assert led
    assert set(led) <= set(ids)
