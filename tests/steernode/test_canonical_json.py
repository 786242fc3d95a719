from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steernode.canonical import canonical_json, format_decimal, format_measure, parse_alpha, parse_layer, parse_strict, sha256_hex
from steernode.errors import AlphaError, CanonicalError, LayerError, SteerError

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
documents = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63) + 1, 2**63 - 1) | texts,
    lambda children: st.lists(children, max_size=4) | st.dictionaries(texts, children, max_size=4),
    max_leaves=20,
)


@given(documents)
def test_canonical_bytes_read_back_as_the_same_value_and_the_same_bytes(document):
    data = canonical_json(document)
    assert parse_strict(data) == document
    assert canonical_json(parse_strict(data)) == data


def test_canonical_form_is_sorted_tight_and_unescaped():
    assert canonical_json({"b": [1, None, True], "a": "α"}) == '{"a":"α","b":[1,null,true]}'.encode()


@pytest.mark.parametrize("value", [1.0, {"alpha": 0.5}, [[float("nan")]]])
def test_a_float_never_enters_a_digest(value):
    with pytest.raises(CanonicalError) as caught:
        canonical_json(value)
    assert caught.value.code == "FLOAT_IN_DIGEST"


@pytest.mark.parametrize("value", [{1: "x"}, {"x": b"bytes"}, Decimal("1"), "\ud800"])
def test_what_json_cannot_carry_is_refused(value):
    with pytest.raises(CanonicalError) as caught:
        canonical_json(value)
    assert caught.value.code == "NOT_CANONICAL"


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b'{"a":1,"a":2}', "JSON_DUPLICATE_KEY"),
        (b'{"a":{"b":1,"b":1}}', "JSON_DUPLICATE_KEY"),
        (b"NaN", "JSON_NUMBER"),
        (b"-Infinity", "JSON_NUMBER"),
        (b"1e400", "JSON_NUMBER"),
        (str(2**70).encode(), "JSON_NUMBER"),
        (b"9" * 5000, "JSON_NUMBER"),
        (b'"\xff"', "JSON_ENCODING"),
        (b'"\\ud800"', "JSON_ENCODING"),
        (b'{"\\udc00":1}', "JSON_ENCODING"),
        (b"\xef\xbb\xbf{}", "JSON_SYNTAX"),
        (b"{", "JSON_SYNTAX"),
        (b"", "JSON_SYNTAX"),
        (b"{} {}", "JSON_SYNTAX"),
        (b"[" * 33 + b"]" * 33, "JSON_DEPTH"),
        (b"[" * 100_000, "JSON_DEPTH"),
    ],
)
def test_json_that_two_parsers_may_read_differently_is_refused(data, code):
    with pytest.raises(CanonicalError) as caught:
        parse_strict(data)
    assert caught.value.code == code


def test_json_past_the_byte_limit_is_refused_before_it_is_read():
    with pytest.raises(CanonicalError) as caught:
        parse_strict(b"[" * 11, max_bytes=10)
    assert caught.value.code == "JSON_TOO_LARGE"


def test_the_deepest_allowed_document_is_read():
    assert parse_strict(b"[" * 32 + b"]" * 32)


def test_an_integer_of_a_tokenizer_file_is_read_when_asked_for():
    assert parse_strict(b"1000000000000000019884624838656", wide_integers=True) == 1000000000000000019884624838656


@pytest.mark.parametrize("value", ["0", "0.5", "-0.5", "1000", "-1000", "0.50", 3, -3, Decimal("0.5"), Decimal("0.500000000000000")])
def test_a_plain_decimal_is_a_coefficient(value):
    assert parse_alpha(value) == Decimal(str(value))


@pytest.mark.parametrize(
    "value",
    [
        *(
            "",
            "NaN",
            "Infinity",
            "1e309",
            "1E2",
            "-0",
            "-0.0",
            "0,5",
            "1,000",
            "+1",
            ".5",
            "1.",
            "007",
            " 1",
            "1 ",
            "1\n",
            "1_000",
            "٣",
            "0x1",
        ),
        *("1" * 40, "0.1234567890123", True, 0.5, float("nan"), None, Decimal("NaN"), Decimal("-Infinity"), Decimal("1E+999999")),
    ],
)
def test_anything_else_is_not_a_coefficient(value):
    with pytest.raises(AlphaError) as caught:
        parse_alpha(value)
    assert caught.value.code == "ALPHA_FORMAT"


@pytest.mark.parametrize("value", ["1000.1", "-1001", "1000000", 10**6])
def test_a_coefficient_nobody_may_ask_for_is_out_of_range(value):
    with pytest.raises(AlphaError) as caught:
        parse_alpha(value)
    assert caught.value.code == "ALPHA_RANGE"


@given(st.decimals(-1000, 1000, places=6))
def test_formatting_keeps_the_value_and_drops_only_zeros(number):
    text = format_decimal(number)
    assert Decimal(text) == number
    assert "E" not in text
    assert text == "0" or not text.endswith(".")
    assert text in ("0", text.lstrip("+"))
    assert format_decimal(Decimal(text)) == text


def test_formatting_has_one_zero_and_no_exponent():
    assert [format_decimal(Decimal(text)) for text in ("-0.00", "0E+3", "1E+2", "1.500")] == ["0", "0", "100", "1.5"]


def test_a_measure_is_written_with_the_digits_that_mean_something():
    assert format_measure(41.2) == "41.2"
    assert format_measure(1 / 3) == "0.333333333"
    assert format_measure(123456789.123) == "123456789"
    with pytest.raises(CanonicalError):
        format_measure(float("inf"))


@pytest.mark.parametrize("value", [-1, 12, True, False, "14 ", "3", 3.0, None])
def test_a_layer_is_the_index_of_a_block(value):
    with pytest.raises(LayerError) as caught:
        parse_layer(value, 12)
    assert caught.value.code == "LAYER_RANGE"


def test_the_first_and_last_block_are_layers():
    assert [parse_layer(value, 12) for value in (0, 11)] == [0, 11]


def test_an_error_survives_pickling_between_processes():
    import pickle

    error = pickle.loads(pickle.dumps(AlphaError("ALPHA_RANGE", "too much", "9")))  # noqa: S301 - bytes made one line up
    assert isinstance(error, SteerError)
    assert (error.code, str(error), error.item) == ("ALPHA_RANGE", "too much", "9")


def test_sha256_is_of_the_exact_bytes():
    assert sha256_hex(b"") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
