import json

import pytest

from steernode.canonical import sha256_hex
from steernode.errors import ContrastSetError
from steernode.files.contrast import parse_pairs
from steernode.files.conversations import Message, prompt_key
from steernode.files.suites import parse_suite, refuse_overlap
from tests.support.pairs import FIRST, SECOND, lines, pair, say


def test_pairs_are_read_in_order_and_known_by_their_exact_bytes():
    data = lines(FIRST, SECOND)
    contrast = parse_pairs(data)
    assert [pair.id for pair in contrast.pairs] == ["a", "b"]
    assert contrast.digest == sha256_hex(data)
    assert contrast.pairs[0].digest == sha256_hex(data.split(b"\n")[0])
    assert contrast.pairs[0].positive[1] == Message("assistant", "So sorry about a, let me look.")
    assert (contrast.pairs[0].locale, contrast.pairs[0].product) == ("en-US", "billing")


def test_the_last_line_needs_no_line_feed():
    assert len(parse_pairs(lines(FIRST, SECOND)[:-1]).pairs) == 2


def swapped(value):
    return value | {"id": "s", "positive": value["negative"], "negative": value["positive"]}


BAD_SETS = {
    "empty file": (b"", "CONTRAST_EMPTY", None),
    "only white space": (b"\n \n", "CONTRAST_EMPTY", None),
    "one pair": (lines(FIRST), "CONTRAST_TOO_FEW", "line 1"),
    "not JSON": (lines(FIRST, "nonsense"), "CONTRAST_NOT_JSONL", "line 2"),
    "an array": (lines(FIRST, [1]), "CONTRAST_NOT_JSONL", "line 2"),
    "a blank line": (lines(FIRST, "", SECOND), "CONTRAST_NOT_JSONL", "line 2"),
    "duplicate key": (lines(FIRST, '{"id":"x","id":"y"}'), "CONTRAST_NOT_JSONL", "line 2"),
    "side missing": (lines(FIRST, {"id": "b", "positive": SECOND["positive"]}), "CONTRAST_MISSING_SIDE", "line 2"),
    "side empty": (lines(FIRST, pair("b", negative=[])), "CONTRAST_MISSING_SIDE", "line 2"),
    "side blank": (lines(FIRST, pair("b", negative=[say("user", " ")])), "CONTRAST_MISSING_SIDE", "line 2"),
    "side is text": (lines(FIRST, pair("b", negative="cold")), "CONTRAST_MISSING_SIDE", "line 2"),
    "only a system message": (lines(FIRST, pair("b", negative=[say("system", "be cold")])), "CONTRAST_MISSING_SIDE", "line 2"),
    "identical sides": (lines(FIRST, pair("b", negative=SECOND["positive"])), "CONTRAST_IDENTICAL_SIDES", "line 2"),
    "pair repeated": (lines(FIRST, SECOND, FIRST | {"id": "c"}), "CONTRAST_DUPLICATE_PAIR", "line 3"),
    "pair repeated with its sides swapped": (lines(FIRST, SECOND, swapped(FIRST)), "CONTRAST_DUPLICATE_PAIR", "line 3"),
    "id repeated": (lines(FIRST, SECOND | {"id": "a"}), "CONTRAST_DUPLICATE_PAIR", "line 2"),
    "unknown field": (lines(FIRST, pair("b", weight=1)), "CONTRAST_UNKNOWN_FIELD", "line 2"),
    "unknown field of a message": (
        lines(FIRST, pair("b", positive=[say("user", "x") | {"name": "y"}])),
        "CONTRAST_UNKNOWN_FIELD",
        "line 2",
    ),
    "unknown role": (lines(FIRST, pair("b", positive=[say("tool", "x")])), "CONTRAST_ROLE", "line 2"),
    "system message in the middle": (
        lines(FIRST, pair("b", positive=[say("user", "x"), say("system", "y")])),
        "CONTRAST_ROLE",
        "line 2",
    ),
    "content is a number": (lines(FIRST, pair("b", positive=[{"role": "user", "content": 1}])), "CONTRAST_ROLE", "line 2"),
    "id blank": (lines(FIRST, pair(" ")), "CONTRAST_FIELD", "line 2"),
    "locale is a number": (lines(FIRST, pair("b", locale=1)), "CONTRAST_FIELD", "line 2"),
    "not UTF-8": (lines(FIRST) + b'{"id":"\xff"}\n', "CONTRAST_ENCODING", "line 2"),
    "byte order mark": (b"\xef\xbb\xbf" + lines(FIRST, SECOND), "CONTRAST_ENCODING", "line 1"),
    "carriage returns": (lines(FIRST, SECOND).replace(b"\n", b"\r\n"), "CONTRAST_ENCODING", "line 1"),
    "lone surrogate": (lines(FIRST, json.dumps(SECOND).replace("pending", "\\ud800")), "CONTRAST_ENCODING", "line 2"),
    "NUL": (lines(FIRST, pair("b", positive=[say("user", "x\x00")])), "CONTRAST_ENCODING", "line 2"),
    "line of a megabyte": (lines(FIRST, pair("b", positive=[say("user", "x" * 1_000_000)])), "CONTRAST_LINE_TOO_LONG", "line 2"),
    "too many lines": (b"{}\n" * 100_001, "CONTRAST_TOO_MANY", None),
}


@pytest.mark.parametrize("row", BAD_SETS)
def test_a_bad_contrast_set_is_refused_by_code_and_line(row):
    data, code, item = BAD_SETS[row]
    with pytest.raises(ContrastSetError) as caught:
        parse_pairs(data)
    assert (caught.value.code, caught.value.item) == (code, item)
    assert item is None or item in caught.value.message or code == "CONTRAST_TOO_FEW"


def test_a_prompt_is_the_same_whatever_its_case_spacing_system_text_and_answer():
    asked = (Message("system", "be warm"), Message("user", "Where is  my\nREFUND?"), Message("assistant", "Here."))
    assert prompt_key(asked) == prompt_key((Message("user", "where is my refund?"),))
    assert prompt_key(asked) != prompt_key((Message("user", "where is my invoice?"),))


def suite_item(name, content):
    return {"id": name, "split": "test", "messages": [say("user", content)], "expect": {}}


def test_a_suite_that_asks_what_the_contrast_set_asks_is_refused():
    pairs = parse_pairs(lines(FIRST, SECOND)).pairs
    clean = parse_suite(lines(suite_item("t1", "How do I cancel?")), "behaviour").items
    refuse_overlap(pairs, clean)
    overlapping = parse_suite(lines(suite_item("t1", "How do I cancel?"), suite_item("t2", "where is invoice B?")), "behaviour").items
    with pytest.raises(ContrastSetError) as caught:
        refuse_overlap(pairs, overlapping)
    assert caught.value.code == "CONTRAST_SUITE_OVERLAP"
    assert "'b'" in caught.value.message
    assert "'t2'" in caught.value.message
