"""What a request works on is read once, whatever is asked of it before its job is queued; and so it is for the plan of one."""

from collections import Counter

import pytest

from registry.manifests.plan import Options, make_plan
from registry.services.evals import seal_eval_suite
from registry.services.job_requests import request_extraction, request_validation
from steernode.canonical import sha256_hex
from steernode.files import contrast
from steernode.files import suites as suite_files
from tests.support.declaring import manifest
from tests.support.files import lines

# Decided by what items say, so that they are asked for that as well.
CONDITION = {"kind": "attribute", "name": "product", "values": ["billing"]}
RECIPE = {"layers": "all", "finalists": 1, "condition": CONDITION}


@pytest.fixture
def suites(suites, ada):
    talks = lines([{"id": "talk-0", "split": "test", "turns": ["Hello?", "And then?"]}])
    return [*suites, seal_eval_suite("talks", kind="fluency", data=talks, author=ada)]


@pytest.fixture
def sealed(contrast_set, suites) -> list[str]:
    """The digests of all that a request names; the rubric, which only notices read, is the last."""
    return [contrast_set.digest, *(suite.digest for suite in suites), suites[0].rubric_digest]


@pytest.fixture
def times_parsed(sealed, profile, monkeypatch) -> Counter[str]:
    """How often the bytes of each digest were parsed from here on."""
    times = Counter[str]()
    for module in (contrast, suite_files):

        def count(data, problems, read_lines=module.read_lines):
            times[sha256_hex(data)] += 1
            return read_lines(data, problems)

        monkeypatch.setattr(module, "read_lines", count)
    return times


def test_an_extraction_parses_each_of_its_files_once(times_parsed, sealed, base_model, contrast_set, suites, profile, ada):
    asked = {"base_model": base_model, "contrast_set": contrast_set, "suites": suites, "draft_for": profile, "actor": ada}
    request_extraction(recipe={"vector": "empathy", **RECIPE}, **asked)
    assert times_parsed == Counter(sealed)


def test_a_validation_parses_each_of_its_files_once(vector, times_parsed, sealed, suites, ada):
    request_validation(vector=vector, suites=suites, alpha="0.5", actor=ada)
    assert times_parsed == Counter(sealed[:-1])


def test_what_a_plan_refuses_by_is_parsed_once(times_parsed, sealed, base_model, contrast_set, suites, profile):
    inputs = {"baseModel": base_model.name, "contrastSet": contrast_set.name, "suites": [suite.name for suite in suites]}
    make_plan([manifest("SteeringVector", "empathy", recipe={**inputs, **RECIPE, "profile": profile.name})], Options())
    assert times_parsed == Counter(sealed[:-1])
