"""What whoever asks for a job had better know is said when it is asked for."""

import pytest

from registry.errors import InvalidInput
from registry.models import Job
from registry.services.contrast import seal_contrast_set
from registry.services.job_requests import request_extraction
from tests.support.files import lines, make_pair, pairs_file

# None of them is of the select split.
FEW = lines([make_pair(number) for number in range(20)])


@pytest.fixture
def ask(ada, base_model, suites):
    def request(pairs: bytes, **recipe):
        contrast_set = seal_contrast_set("empathy", axis="empathy", data=pairs, author=ada)
        full = {"vector": "empathy", **recipe}
        return request_extraction(base_model=base_model, contrast_set=contrast_set, suites=suites, recipe=full, actor=ada)

    return request


def test_a_search_without_its_screen_is_told_with_what_it_costs_and_what_to_do(api, ada, ask):
    job = ask(FEW, layers=[0, 1, 2], finalists=1)
    [notice] = api(ada).get(f"/api/v1/jobs/{job.pk}").json()["notices"]
    assert notice["code"] == "SCREEN_OFF"
    for words in ("a screen needs 4", "each of the 3 layers", "more pairs"):
        assert words in notice["sentence"]


@pytest.mark.parametrize("recipe", [{}, {"layers": "all"}, {"layers": "candidates", "finalists": 1}])
def test_layers_that_nobody_chose_are_not_searched_without_a_screen(ask, recipe):
    with pytest.raises(InvalidInput, match="has 0 pairs in its select split, and a screen needs 4") as refused:
        ask(FEW, **recipe)
    assert refused.value.code == "SCREEN_PAIRS"
    assert not Job.objects.exists()


@pytest.mark.parametrize(
    ("pairs", "recipe"),
    [(pairs_file(), {"layers": "all", "finalists": 1}), (FEW, {"layers": [1], "finalists": 1}), (FEW, {"layers": "all", "finalists": 4})],
)
def test_where_layers_are_screened_or_need_not_be_there_is_nothing_to_say(ask, pairs, recipe):
    assert ask(pairs, **recipe).notices == []
