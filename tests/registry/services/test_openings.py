"""Openings: test items judge one axis on one base model once, whoever asks and of whatever vector; a second look takes new ones."""

import json
from decimal import Decimal

import pytest
from django.db import IntegrityError, connection, transaction
from django.test.utils import CaptureQueriesContext

from registry.errors import InvalidInput, TransitionRefused
from registry.models import AuditEvent, SuiteOpening
from registry.reads.openings import count_looks, find_opened
from registry.services.compositions import request_composition
from registry.services.contrast import seal_contrast_set
from registry.services.evals import seal_eval_suite
from registry.services.job_requests import request_extraction, request_validation
from registry.services.jobs import claim_job, fail_job, request_cancel
from registry.services.vectors import import_vector
from tests.support.files import lines, make_pair, make_suite, rubric_file, vector_file
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
    assert count_looks(second) == {"behaviour": 2, "factual": 2, "safety": 2}


def test_another_name_of_a_suite_hides_no_look(ask, suites, ada):
    validate(ask(), passed=False)
    named = [
        seal_eval_suite(f"quite-new-{suite.kind}", kind=suite.kind, data=make_suite(suite.kind, first=500), rubric=rubric, author=ada)
        for suite, rubric in zip(suites, (rubric_file(), None, None), strict=True)
    ]
    assert count_looks(validate(ask(suites=named))) == {"behaviour": 2, "factual": 2, "safety": 2}


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


def relabel(suites, ada, axis="formality"):
    """The same items, judged by a rubric that says it is of another axis."""
    rubric = rubric_file().replace(b"empathy", axis.encode())
    return [seal_eval_suite(f"{axis}-tickets", kind="behaviour", data=make_suite("behaviour"), rubric=rubric, author=ada), *suites[1:]]


def about(axis, base_model, ada, *, seed):
    """A vector of other pairs than those of empathy."""
    pairs = lines([make_pair(number) for number in range(100 + seed, 110 + seed)])
    contrast_set = seal_contrast_set(axis, axis=axis, data=pairs, author=ada)
    return import_vector(axis, data=vector_file(base_model.fingerprint, contrast_set.digest, seed=seed), author=ada)


def test_another_axis_is_another_question(ask, suites, base_model, ada):
    validate(ask())
    formal = about("formality", base_model, ada, seed=3)
    assert ask(vector=formal, suites=relabel(suites, ada)).openings.count() == 3


def test_a_rubric_that_names_another_axis_makes_no_test_item_new(ask, suites, base_model, contrast_set, ada, combined):
    """The axis is that of the pairs that the vector was read from, whatever the suite says of itself."""
    relabelled = relabel(suites, ada)
    inputs = {"base_model": base_model, "contrast_set": contrast_set, "recipe": {"vector": "warm"}, "actor": ada}
    for request in (
        lambda: ask(suites=relabelled),
        lambda: request_extraction(**inputs, suites=relabelled),
        lambda: request_composition(revision=combined, suites=relabelled, actor=ada),
    ):
        with pytest.raises(
            InvalidInput, match="formality-tickets v1 judges formality, and what it is to judge is about empathy"
        ) as refused:
            request()
        assert refused.value.code == "SUITE_AXIS"


def test_a_vector_of_which_nobody_knows_what_it_is_about_may_be_about_anything(ask, suites, base_model, ada):
    validate(ask())
    unknown = import_vector("unknown", data=vector_file(base_model.fingerprint, "c" * 64, seed=4), author=ada)
    with opened():
        ask(vector=unknown, suites=relabel(suites, ada))
    fresh = fresh_suites(suites, ada)
    assert validate(ask(vector=unknown, suites=fresh))
    for vector in (about("formality", base_model, ada, seed=3), unknown):
        with opened():
            ask(vector=vector, suites=relabel(fresh, ada))
    with opened():
        ask(suites=fresh)


def swap_splits(suites, ada):
    """Versions whose lines say of themselves that they are in the other split."""
    swapped = {b'"select"': b'"other"', b'"test"': b'"select"', b'"other"': b'"test"'}

    def swap(data):
        for old, new in swapped.items():
            data = data.replace(old, new)
        return data

    rubrics = [rubric_file(), None, None]
    return [
        seal_eval_suite(suite.name, kind=suite.kind, data=swap(make_suite(suite.kind)), rubric=rubric, author=ada)
        for suite, rubric in zip(suites, rubrics, strict=True)
    ]


def test_what_a_search_chose_by_judges_nothing_that_it_chose(ask, base_model, contrast_set, suites, ada, combined):
    inputs = {"base_model": base_model, "contrast_set": contrast_set, "suites": suites, "actor": ada}
    vector = extract(request_extraction(**inputs, recipe={"vector": "warm"}), seed=11)
    swapped = swap_splits(suites, ada)
    for request in (
        lambda: ask(vector=vector, suites=swapped),
        lambda: ask(suites=[suites[0], swapped[1], suites[2]]),
        lambda: request_composition(revision=combined, suites=swapped, actor=ada),
    ):
        with opened() as refused:
            request()
        assert "chose by what 2 of the test items of" in refused.value.message
    # A few new ones do not make up for them.
    more = make_suite("factual").replace(b'"select"', b'"test"') + make_suite("factual", first=900)
    mixed = seal_eval_suite("facts", kind="factual", data=more, author=ada)
    fresh = fresh_suites(suites, ada)
    with opened():
        ask(vector=vector, suites=[fresh[0], mixed, fresh[2]])
    assert ask(vector=vector, suites=fresh).kind == "validation"


def test_a_search_that_left_nothing_chose_nothing(ask, base_model, contrast_set, suites, ada):
    inputs = {"base_model": base_model, "contrast_set": contrast_set, "suites": suites, "recipe": {"vector": "warm"}, "actor": ada}
    fail_job(claim_job(request_extraction(**inputs).pk, worker="w"), code="OUT_OF_MEMORY", message="too large")
    request_cancel(request_extraction(**inputs).pk, actor=ada)
    assert ask(suites=swap_splits(suites, ada)).kind == "validation"


def test_a_chain_is_not_begun_whose_test_items_its_own_search_would_choose_by(base_model, contrast_set, suites, ada, profile):
    items = [json.loads(line) for line in make_suite("factual").splitlines()]
    briefly = [{**item, "id": f"brief-{item['id']}", "split": "select"} for item in items if item["split"] == "test"]
    for item in briefly:
        item["messages"] = [{"role": "system", "content": "Be brief."}, *item["messages"]]
    both = lines([*items, *briefly])
    twice = seal_eval_suite("twice", kind="factual", data=both, author=ada)
    inputs = {"base_model": base_model, "contrast_set": contrast_set, "suites": [suites[0], twice, suites[2]], "actor": ada}
    with opened():
        request_extraction(**inputs, recipe={"vector": "warm"}, draft_for=profile)


def test_whether_items_are_new_is_asked_in_as_many_queries_however_often_they_were_looked_at(ask, suites, vector, ada):
    def count() -> int:
        with CaptureQueriesContext(connection) as queries:
            assert find_opened(suites, "empathy", vector.base_model) is not None
        return len(queries)

    validate(ask())
    before = count()
    for number in range(3):
        validate(ask(suites=fresh_suites(suites, ada)), note=f"look {number}")
    assert count() == before


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
    unknown = import_vector("unknown", data=vector_file(opening.base_model.fingerprint, "c" * 64, seed=4), author=ada)
    with pytest.raises(IntegrityError, match="opening_is_the_first_of_these_items"), transaction.atomic():
        SuiteOpening.objects.create(**copy | {"vector": unknown, "axis": "formality"}, job=job, opened_by=ada)
    with pytest.raises(IntegrityError, match="opening_is_of_the_axis_of_its_vector"), transaction.atomic():
        SuiteOpening.objects.create(**copy | {"axis": "formality"}, job=job, opened_by=ada)
    with pytest.raises(IntegrityError, match="append-only"), transaction.atomic():
        SuiteOpening.objects.filter(pk=opening.pk).delete()
