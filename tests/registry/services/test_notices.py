"""What whoever asks for a job had better know is said when it is asked for."""

import pytest

from registry.services.contrast import seal_contrast_set
from registry.services.jobs import request_extraction
from tests.support.files import pairs_file


@pytest.fixture
def ask(ada, base_model, suites):
    def request(pairs: int, **recipe):
        contrast_set = seal_contrast_set("empathy", axis="empathy", data=pairs_file(pairs), author=ada)
        full = {"vector": "empathy", **recipe}
        return request_extraction(base_model=base_model, contrast_set=contrast_set, suites=suites, recipe=full, actor=ada)

    return request


def test_a_search_without_its_screen_is_told_with_what_it_costs_and_what_to_do(api, ada, ask):
    job = ask(20, layers="all", finalists=1)
    [notice] = api(ada).get(f"/api/v1/jobs/{job.pk}").json()["notices"]
    assert notice["code"] == "SCREEN_OFF"
    layers = len(job.recipe["layers"])
    for words in ("a screen needs 8", f"each of the {layers} layers", "more pairs"):
        assert words in notice["sentence"]


@pytest.mark.parametrize(("pairs", "recipe"), [(200, {"layers": "all", "finalists": 1}), (20, {"layers": [1], "finalists": 1})])
def test_where_layers_are_screened_or_need_not_be_there_is_nothing_to_say(ask, pairs, recipe):
    assert ask(pairs, **recipe).notices == []
