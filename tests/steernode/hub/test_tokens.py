"""The form of tokens, against answers worked out elsewhere: CRC-32's own check value, and two tokens written down whole."""

from pathlib import Path

from steernode.hub.tokens import NODE, PERSON, checksum, is_well_formed, make_token

ZERO = "sht_00000000000000000000000000000000000000000004WaEOy"
HIGHEST = "shn_yhjskwdA6OZ1AL1YmHWZWm8LLG7HjnuCA2j5rOw8Xp14D2Hiu"


def test_the_checksum_is_crc_32_in_base_62():
    # The check value of CRC-32/ISO-HDLC is 0xCBF43926 = 3421780262.
    assert checksum("123456789") == "3jZRME"


def test_tokens_written_down_by_hand_are_well_formed():
    assert is_well_formed(ZERO)
    assert is_well_formed(HIGHEST)


def test_the_documentation_shows_a_well_formed_token():
    assert f"`{ZERO}` is well formed" in (Path(__file__).parents[3] / "docs/security.md").read_text()


def test_any_one_character_that_is_wrong_is_noticed():
    for position in range(len(ZERO)):
        wrong = ZERO[:position] + ("7" if ZERO[position] != "7" else "8") + ZERO[position + 1 :]
        assert not is_well_formed(wrong), position


def test_what_is_cut_off_longer_or_something_else_is_no_token():
    for wrong in ("", "sht_", ZERO[:-1], ZERO + "0", ZERO + "\n", f" {ZERO}", ZERO.upper(), f"{ZERO},Bearer {ZERO}", "é" * 53):
        assert not is_well_formed(wrong), wrong


def test_a_new_token_is_like_no_other():
    made = {make_token(kind) for kind in (PERSON, NODE) for _ in range(500)}
    assert len(made) == 1000
    assert all(is_well_formed(token) for token in made)
