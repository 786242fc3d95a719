"""Openings: test items judge one axis on one base model once, whoever asks and of whatever vector; a second look takes new ones."""

from decimal import Decimal

import pytest
from django.db import IntegrityError, transaction

from registry.errors import TransitionRefused
from registry.models import AuditEvent, SuiteOpening
from registry.reads.openings import count_looks
from registry.services.evals import seal_eval_suite
from registry.services.jobs import claim_job, fail_job, request_cancel, request_extraction, request_validation
from registry.services.vectors import import_vector
from tests.support.files import make_suite, rubric_file, vector_file
from tests.support.unopened import fresh_suites
from tests.support.working import extract, validate


@pytest.fixture
def ask(vector, suites, ada):
    return lambda **changes: request_validation(**{"vector": vector, "suites": suites, "actor": ada, "alpha": Decimal("0.5"), **changes})


@pytest.fixture
def other(base_model, contrast_set, ada):
    return import_vector("other", data=vector_file(base_model.fingerprint, contrast_set.digest, seed=9), author=ada)


def opened():
    return pytest.raises(TransitionRefused, check=lambda error: error.code == "TEST_SPLIT_OPENED")


def test_an_opening_is_on_record_with_its_gates_before_any_reply(ask, suites):
    job = ask()
    assert {(row.suite, row.axis, row.vector) for row in job.openings.all()} == {(suite, "empathy", job.vector) for suite in suites}
    actions = list(AuditEvent.objects.order_by("seq").values_list("action", flat=True))
    assert actions.index("job.requested") < actions.index("test_split.opened")
    body = bytes(AuditEvent.objects.get(action="test_split.opened").body).decode()
    assert "harmful_compliance_gained max_high 0.01" in body
    assert '"gate_set":"default@1"' in body


def test_the_same_items_judge_neither_the_same_vector_nor_another_of_the_axis_again(ask, other):
    validate(ask())
    with opened() as refused:
        ask(alpha=Decimal("0.4"))
    assert "seal a version with at least 2 test items that were not asked yet" in refused.value.message
    with opened():
        ask(vector=other)


def test_new_items_are_another_look_which_is_counted(ask, suites, ada):
    first = validate(ask(), passed=False)
    assert set(count_looks(first).values()) == {1}
    second = validate(ask(suites=fresh_suites(suites, ada), alpha=Decimal("0.4")))
    assert (second.vector, second.alpha, second.passed) == (first.vector, Decimal("0.4"), True)
    assert count_looks(second) == {"tickets": 2, "facts": 2, "refusals": 2}


def test_one_suite_whose_items_were_asked_is_enough_to_refuse_the_look(ask, suites, ada):
    validate(ask())
    tickets, *_ = fresh_suites(suites, ada)
    with opened() as refused:
        ask(suites=[tickets, *suites[1:]])
    assert "facts v1" in refused.value.message


def test_neither_another_name_nor_a_few_new_items_make_a_suite_new(ask, suites, ada):
    validate(ask())
    fresh = fresh_suites(suites, ada)
    copied = make_suite("factual").replace(b'"factual-', b'"copied-')
    renamed = seal_eval_suite("quite-another", kind="factual", data=copied, author=ada)
    with opened():
        ask(suites=[fresh[0], renamed, fresh[2]])
    # As many new ones as there were old will do, whether or not the old ones stay.
    longer = seal_eval_suite("facts", kind="factual", data=copied + make_suite("factual", first=900), author=ada)
    assert ask(suites=[fresh[0], longer, fresh[2]]).kind == "validation"


def test_a_job_that_left_nothing_stops_no_other(ask, ada):
    fail_job(claim_job(ask().pk, worker="w"), code="OUT_OF_MEMORY", message="too large")
    request_cancel(ask().pk, actor=ada)
    assert ask().openings.count() == 3
    assert SuiteOpening.objects.count() == 9


def test_another_base_model_or_another_axis_is_another_question(ask, suites, ada, vector):
    validate(ask())
    from registry.reads.openings import find_opened

    assert find_opened(suites, vector.base_model)
    rubric = rubric_file().replace(b"empathy", b"formality")
    formal = seal_eval_suite("formal-tickets", kind="behaviour", data=make_suite("behaviour"), rubric=rubric, author=ada)
    assert find_opened([formal, *suites[1:]], vector.base_model) is None


def test_a_search_whose_vector_exists_is_refused_before_any_work(base_model, contrast_set, suites, ada):
    inputs = {"base_model": base_model, "contrast_set": contrast_set, "suites": suites, "actor": ada}
    vector = extract(request_extraction(**inputs, recipe={"vector": "warm", "layers": [2]}))
    for recipe in ({"vector": "warm", "layers": [2], "alphas": ["0", "0.7"]}, {"vector": "other", "layers": [2]}):
        with pytest.raises(TransitionRefused, match="warm v1 again, byte for byte") as refused:
            request_extraction(**inputs, recipe=recipe)
        assert refused.value.code == "VECTOR_EXISTS"
    # What could come out otherwise is searched.
    for recipe in ({"vector": "warm", "layers": [1, 2]}, {"vector": "warm", "layers": [2], "method": "pca_uncentred"}):
        assert request_extraction(**inputs, recipe=recipe).kind == "extraction"
    validate(request_validation(vector=vector, suites=suites, actor=ada), passed=False)
    # The way out of evidence that failed: the vector that there is, at another α, on new items.
    again = request_validation(vector=vector, suites=fresh_suites(suites, ada), actor=ada, alpha=Decimal("0.3"))
    assert validate(again).passed


def test_a_chain_whose_validation_would_be_refused_is_refused_before_any_work(ask, base_model, contrast_set, suites, ada, profile):
    validate(ask())
    inputs = {"base_model": base_model, "contrast_set": contrast_set, "actor": ada, "recipe": {"vector": "warm"}}
    with opened():
        request_extraction(**inputs, suites=suites, draft_for=profile)
    assert request_extraction(**inputs, suites=suites).kind == "extraction"
    assert request_extraction(**inputs, suites=fresh_suites(suites, ada), draft_for=profile).kind == "extraction"


def test_a_chain_that_somebody_else_overtook_leaves_its_vector_and_says_so(ask, base_model, contrast_set, suites, ada, profile):
    inputs = {"base_model": base_model, "contrast_set": contrast_set, "suites": suites, "actor": ada}
    job = request_extraction(**inputs, recipe={"vector": "warm"}, draft_for=profile)
    validate(ask())
    vector = extract(job, seed=11)
    job.refresh_from_db()
    assert (vector.name, job.state, "TEST_SPLIT_OPENED" in job.note) == ("warm", "succeeded", True)


def test_database_takes_no_second_look_at_the_same_items(ask, ada, suites, other):
    opening = ask().openings.first()
    copy = {"axis": opening.axis, "base_model": opening.base_model, "suite": opening.suite, "vector": other, "gates_digest": "a" * 64}
    job = ask(suites=fresh_suites(suites, ada), vector=other)
    with pytest.raises(IntegrityError, match="opening_is_the_first_of_these_items"), transaction.atomic():
        SuiteOpening.objects.create(**copy, job=job, opened_by=ada)
    with pytest.raises(IntegrityError, match="append-only"), transaction.atomic():
        SuiteOpening.objects.filter(pk=opening.pk).delete()
