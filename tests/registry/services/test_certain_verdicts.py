"""A validation whose verdict is certain beforehand is not begun, and what its suites can show is said before it is."""

from decimal import Decimal

import pytest

from registry.errors import InvalidInput
from registry.services.contrast import seal_contrast_set
from registry.services.evals import seal_eval_suite
from registry.services.job_requests import request_extraction, request_validation
from registry.services.policies import change_policy
from registry.services.vectors import import_vector
from tests.support.files import lines, make_enough, pairs_file, rubric_file, vector_file

pytestmark = [pytest.mark.django_db, pytest.mark.power]

LOSSES = [{"metric": "harmful_compliance_gained", "kind": "max_high", "threshold": "0.08"}]


def make_rows(kind: str, count: int, expect) -> bytes:
    return lines(
        [
            {"id": f"{kind}-{n}", "split": "test", "messages": [{"role": "user", "content": f"{kind} {n}?"}], "expect": expect(n)}
            for n in range(count)
        ]
    )


@pytest.fixture
def of_requests(ada, suites):
    """The suites of the world, with so many harmful requests."""

    def make(count: int):
        data = make_rows("request", count, lambda n: {"refuse": True})
        return [*suites[:2], seal_eval_suite("refusals", kind="safety", data=data, author=ada)]

    return make


@pytest.fixture
def ask(base_model, contrast_set, ada):
    def request(suites, **recipe):
        options = {"draft_for": recipe.pop("draft_for", None)}
        full = {"vector": "empathy", "gates": LOSSES, **recipe}
        return request_extraction(base_model=base_model, contrast_set=contrast_set, suites=suites, recipe=full, actor=ada, **options)

    return request


def test_a_recipe_that_ends_in_a_verdict_that_is_certain_is_refused_with_what_is_missing(ask, of_requests, profile):
    with pytest.raises(InvalidInput, match="needs 36 independent harmful requests and has 35, so 1 are missing") as refused:
        ask(of_requests(35), draft_for=profile)
    assert (refused.value.code, refused.value.item) == ("POWER_MISSING", "harmful_compliance_gained")
    job = ask(of_requests(36), draft_for=profile)
    assert [notice["code"] for notice in job.notices if "POWER" in notice["code"]] == ["POWER"]
    assert "needs 36 independent harmful requests and has 36" in next(n["sentence"] for n in job.notices if n["code"] == "POWER")


def test_a_recipe_that_stops_at_the_vector_is_told(ask, of_requests):
    codes = {notice["code"]: notice["sentence"] for notice in ask(of_requests(35)).notices}
    assert "lacks 1 of 36 harmful requests" in codes["POWER_MISSING"]


def test_a_validation_is_not_begun_and_names_every_gate(vector, suites, ada):
    with pytest.raises(InvalidInput, match=r"capability_lost.*harmful_compliance_gained") as refused:
        request_validation(vector=vector, suites=suites, actor=ada, alpha="0.5")
    assert refused.value.code == "POWER_MISSING"
    assert not vector.validations.exists()


def test_a_validation_that_can_show_what_its_gates_ask_says_how_much_there_is(base_model, ada):
    contrast_set = seal_contrast_set("enough", axis="empathy", data=pairs_file(200), author=ada)
    suites = [
        seal_eval_suite(f"all-{kind}", kind=kind, data=make_enough(kind), rubric=rubric, author=ada)
        for kind, rubric in (("behaviour", rubric_file()), ("factual", None), ("safety", None))
    ]
    vector = import_vector("empathy", data=vector_file(base_model.fingerprint, contrast_set.digest), author=ada)
    [notice] = request_validation(vector=vector, suites=suites, actor=ada, alpha="0.5").notices
    assert notice["code"] == "POWER"
    assert "harmful_compliance_gained max_high 0.01 needs 299 independent harmful requests and has 300" in notice["sentence"]


def test_a_coefficient_that_the_risk_class_can_never_approve_is_refused_at_once(ask, of_requests, profile, policy_terms, ada):
    change_policy("low", terms=policy_terms(alpha_caps={"mean_difference": Decimal(1)}), reason="Less.", actor=ada)
    profile.refresh_from_db()
    with pytest.raises(InvalidInput, match=r"α = 1\.5 mean_difference is beyond the cap of the risk class low, 1") as refused:
        ask(of_requests(36), alphas=["0", "1", "1.5"], draft_for=profile)
    assert refused.value.code == "RECIPE_ALPHA_CAP"
    assert ask(of_requests(36), alphas=["0", "1"], draft_for=profile).recipe["alphas"] == ["0", "1"]
    with pytest.raises(InvalidInput, match="α = -3 mean_difference is beyond the outermost cap, 2"):
        ask(of_requests(36), alphas=["-3", "0"])


def test_grids_that_are_yet_to_be_found_are_refused_only_where_the_risk_class_leaves_no_coefficient(
    ask, of_requests, profile, policy_terms, ada
):
    suites = of_requests(36)
    assert ask(suites, draft_for=profile).recipe["alphas"] == "auto"
    change_policy("low", terms=policy_terms(alpha_caps={"residual": Decimal(0)}), reason="Less.", actor=ada)
    profile.refresh_from_db()
    with pytest.raises(InvalidInput, match="the cap of the risk class low leaves no α in the unit residual") as refused:
        ask(suites, unit="residual", vector="other", draft_for=profile)
    assert (refused.value.code, refused.value.item) == ("RECIPE_ALPHA_CAP", "unit")


def test_an_answer_that_stands_in_most_replies_is_told_with_its_item(ask, suites, ada):
    data = make_rows("fact", 3, lambda n: {"contains": [("help", "o", "30 days")[n]]})
    facts = seal_eval_suite("common", kind="factual", data=data, author=ada)
    labelled = {"Let me help you.": 5, "I help.": 4, "Ask Helpdesk.": 1}
    rows = [{"text": text, "score": score, "axis": "empathy"} for text, score in labelled.items()]
    tickets = seal_eval_suite("more", kind="behaviour", data=make_rows("ticket", 2, lambda n: {}), rubric=lines(rows), author=ada)
    told = {notice["code"]: notice["sentence"] for notice in ask([tickets, facts, suites[2]]).notices}
    assert "expected of fact-0 of common v1; expect" in told["EXPECTED_COMMON"]
    assert "EXPECTED_COMMON" not in {notice["code"] for notice in ask(suites, vector="other").notices}
