"""Entries are written once and joined; the bytes must be those of the whole document written at once."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steernode.canonical import canonical_json
from steernode.dsse import MAX_PAYLOAD_BYTES
from steernode.errors import SnapshotRefused
from steernode.snapshot.content import Content, compile_payload
from steernode.snapshot.document import CONTENT_FIELDS, SCHEMA, digest_content, parse_document, parse_snapshot
from steernode.strict import format_time
from tests.support.hub_simulator import NOW, make_component, make_content, make_flag, make_profile

HEAD = {"environment": "production", "revision": 7, "rollback_of": 5, "issued_at": NOW, "expires_at": NOW + timedelta(hours=1)}
texts = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=12)
scales = st.sampled_from(["0", "0.25", "1", "1.2"])
flags = st.lists(st.builds(make_flag, tenant=texts, route=texts | st.just(""), alpha_scale=scales, revision=st.just(3)), max_size=6)
profiles = st.lists(texts, unique=True, max_size=3).map(lambda names: [make_profile(), *(make_profile(id=f"p-{name}") for name in names)])


def write_whole(content):
    """The same document in the plainest way: all of it, in one piece."""
    return canonical_json(
        {
            **{name: content[name] for name in CONTENT_FIELDS},
            **HEAD,
            "schema": SCHEMA,
            "content_digest": digest_content(content),
            "issued_at": format_time(HEAD["issued_at"]),
            "expires_at": format_time(HEAD["expires_at"]),
        }
    )


@given(flags=flags, profiles=profiles)
def test_joined_entries_are_the_bytes_of_the_whole_document(flags, profiles):
    content = make_content(flags=flags, profiles=profiles)
    whole = write_whole(content)
    try:
        parse_snapshot(parse_document(whole))
    except SnapshotRefused as refusal:
        code = refusal.code
        with pytest.raises(SnapshotRefused, check=lambda error: error.code == code):
            compile_payload(Content.from_document(content), **HEAD)
    else:
        joined = Content.from_document(content)
        assert compile_payload(joined, **HEAD) == whole
        assert joined.digest == digest_content(content)


def test_a_document_of_many_levels_is_the_same_in_one_piece_and_in_entries():
    condition = {"kind": "future", "inside": {"labels": [{"deep": ["é", "\u2028", '"']}]}}
    content = make_content(
        profiles=[make_profile(components=[make_component(condition=condition)])],
        capabilities=["condition:future", *make_content()["capabilities"]],
    )
    assert compile_payload(Content.from_document(content), **HEAD) == write_whole(content)


@pytest.mark.parametrize(
    "head", [{"environment": ""}, {"environment": "a\nb"}, {"revision": 0}, {"rollback_of": 0}], ids=lambda head: next(iter(head))
)
def test_what_is_wrong_with_the_head_is_refused_before_it_is_signed(head):
    with pytest.raises(SnapshotRefused, check=lambda error: (error.code, error.item) == ("SCHEMA", next(iter(head)))):
        compile_payload(Content.from_document(make_content()), **{**HEAD, **head})


def test_a_snapshot_larger_than_nodes_read_is_not_signed():
    content = make_content(flags=[make_flag(tenant=f"{number:0200}") for number in range(MAX_PAYLOAD_BYTES // 280)])
    with pytest.raises(SnapshotRefused, check=lambda error: error.code == "LIMIT"):
        compile_payload(Content.from_document(content), **HEAD)


def test_a_value_that_no_node_would_read_is_refused_where_its_entry_is_written():
    with pytest.raises(SnapshotRefused, match=r"flags\[\]\.alpha_scale"):
        Content.from_document(make_content(flags=[make_flag(alpha_scale="-1")]))


RISKY = {"low": {"alpha_cap": {"absolute": "1000", "mean_difference": "2", "residual": "1"}, "composition_budget": "0.13"}}
scaled = st.builds(
    make_flag,
    tenant=texts,
    revision=st.just(3),
    alpha_scale=st.sampled_from(["0", "0.1", "0.5", "1", "1.1", "1.2", "1.3"]),
    override=st.sampled_from([{"alpha_min": "0", "alpha_max": "0.6"}, {"alpha_min": "0.2", "alpha_max": "0.4"}]),
)


@given(flags=st.lists(scaled, max_size=5, unique_by=lambda flag: flag["tenant"]), lowest=st.sampled_from(["0", "0.25"]))
def test_flags_are_within_the_limits_together_exactly_when_each_is_alone(flags, lowest):
    def is_refused(flags):
        profile = make_profile(components=[make_component(alpha_min=lowest)])
        limits = {**make_content()["limits"], "risk_classes": RISKY}
        try:
            compile_payload(Content.from_document(make_content(flags=flags, profiles=[profile], limits=limits)), **HEAD)
        except SnapshotRefused as refusal:
            return refusal.code in ("ALPHA_CAP", "COMPOSITION_BUDGET")
        return False

    assert is_refused(flags) == any(is_refused([flag]) for flag in flags)
