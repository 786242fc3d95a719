"""What a profile may be for, and what is said instead of steering."""

from pathlib import Path

import pytest

from registry.errors import InvalidInput
from registry.models import TECHNIQUES, Profile, Purpose
from registry.services.profiles import create_profile

CONCEPTS = Path(__file__).parents[3] / "docs" / "concepts.md"


@pytest.mark.parametrize("purpose", Purpose.values)
def test_a_profile_is_for_one_of_the_purposes_that_steering_serves(ada, purpose):
    profile = create_profile("p", intent="x", purpose=purpose, axis="empathy", risk_class="low", owner=ada)
    assert profile.purpose == purpose
    assert TECHNIQUES[purpose].use == "steering"


@pytest.mark.parametrize(
    ("purpose", "instead"), [("facts", "retrieval or knowledge editing"), ("skill", "LoRA or SFT"), ("unlearning", "guardrails")]
)
def test_what_steering_cannot_do_is_refused_with_what_can(api, ada, purpose, instead):
    body = {"name": "p", "intent": "x", "purpose": purpose, "axis": "empathy", "risk_class": "low"}
    answer = api(ada).post("/api/v1/profiles", body)
    assert (answer.status_code, answer.json()["code"]) == (422, "PURPOSE_UNFIT")
    assert f"Use {instead}" in answer.json()["detail"]
    assert not Profile.objects.exists()


def test_a_purpose_that_nobody_knows_is_refused_with_those_that_are_known(ada):
    with pytest.raises(InvalidInput, match="tone, style, safety, reasoning, format", check=lambda error: error.code == "PURPOSE_UNKNOWN"):
        create_profile("p", intent="x", purpose="vibes", axis="empathy", risk_class="low", owner=ada)


def test_the_page_of_concepts_shows_the_table_that_the_registry_decides_by():
    rows = [f"| {name} | {row.wish} | {row.use} | {row.why} |" for name, row in TECHNIQUES.items()]
    assert "\n".join(rows) in CONCEPTS.read_text()
