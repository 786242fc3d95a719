"""What a contrast set's split leaves empty is said before anything is made from it."""

import json

import pytest
from click.testing import CliRunner

from steernode.cli import main
from steernode.errors import ContrastSetError
from steernode.files.contrast import parse_pairs
from steernode.files.splits import refuse_nothing_to_extract, refuse_one_question, split_pairs


def lines(questions, positive="Act as if you are a very happy person.", negative="Act as if you are a very sad person."):
    """A pair for each question; where it is empty, the persona is all that is asked."""
    documents = [
        {
            "id": f"p{number}",
            "positive": [{"role": "user", "content": f"{positive} {question}".strip()}, {"role": "assistant", "content": f"Line {number}"}],
            "negative": [{"role": "user", "content": f"{negative} {question}".strip()}, {"role": "assistant", "content": f"Line {number}"}],
        }
        for number, question in enumerate(questions)
    ]
    return "".join(json.dumps(document) + "\n" for document in documents).encode()


PERSONA = lines([""] * 60)
VARIED = lines([f"What of {number}?" for number in range(60)])


def find_one_that_goes(part):
    """A pair whose question stands in this part."""
    return next(pair for pair in parse_pairs(VARIED).pairs if split_pairs([pair])[part])


def test_sixty_pairs_that_ask_one_question_are_refused_with_what_to_do():
    with pytest.raises(ContrastSetError) as caught:
        refuse_one_question(parse_pairs(PERSONA).pairs)
    assert caught.value.code == "CONTRAST_ONE_QUESTION"
    assert "system message" in caught.value.message
    refuse_one_question(parse_pairs(VARIED).pairs)
    refuse_one_question(parse_pairs(PERSONA).pairs[:1])


def test_a_set_without_a_pair_to_extract_from_says_what_went_where():
    with pytest.raises(ContrastSetError) as caught:
        refuse_nothing_to_extract(split_pairs([find_one_that_goes("select"), find_one_that_goes("test")]))
    assert caught.value.code == "CONTRAST_EXTRACT_EMPTY"
    assert "2 different questions" in caught.value.message
    assert "0 to extract, 1 to select, 1 to test" in caught.value.message
    refuse_nothing_to_extract(split_pairs([find_one_that_goes("extract")]))


def test_inspecting_a_set_shows_its_split_and_refuses_one_question(tmp_path):
    (tmp_path / "persona.jsonl").write_bytes(PERSONA)
    (tmp_path / "varied.jsonl").write_bytes(VARIED)
    refused = CliRunner().invoke(main, ["inspect", "pairs", str(tmp_path / "persona.jsonl")])
    assert refused.exit_code != 0
    assert "CONTRAST_ONE_QUESTION" in refused.output
    shown = CliRunner().invoke(main, ["inspect", "pairs", str(tmp_path / "varied.jsonl"), "-o", "json"])
    assert sum(json.loads(shown.output)["splits"].values()) == 60
