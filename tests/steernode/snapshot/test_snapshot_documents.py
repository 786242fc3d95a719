import copy
from datetime import timedelta
from decimal import Decimal

import pytest

from steernode.canonical import canonical_json
from steernode.errors import AlphaError, SnapshotRefused
from steernode.snapshot.content import Content, compile_payload
from steernode.snapshot.document import digest_content, parse_document, parse_snapshot
from steernode.snapshot.limits import find_alpha_problem
from steernode.snapshot.records import required_capabilities
from steernode.snapshot.resolve import absolute_coefficient, convert_alpha, resolve
from tests.support.hub_simulator import CAPABILITIES, FINGERPRINT, NOW, make_component, make_content, make_document, make_flag, make_profile


def read(document):
    return parse_snapshot(parse_document(canonical_json(document)))


def read_content(**changes):
    return read(make_document(content=make_content(**changes)))


def compile_it(content):
    return compile_payload(
        Content.from_document(content),
        environment="production",
        revision=7,
        rollback_of=5,
        issued_at=NOW,
        expires_at=NOW + timedelta(hours=1),
    )


def test_a_compiled_payload_reads_back_as_what_was_compiled():
    payload = compile_it(make_content())
    snapshot = parse_snapshot(parse_document(payload))
    assert (snapshot.environment, snapshot.revision, snapshot.rollback_of) == ("production", 7, 5)
    assert snapshot.content_digest == digest_content(make_content())
    assert snapshot.issued_at == NOW
    assert snapshot.profiles[0].components[0].alpha == Decimal("0.5")
    assert required_capabilities(snapshot.profiles) == snapshot.capabilities


def test_equal_content_has_an_equal_digest_whatever_the_revision():
    first, second = read(make_document(1)), read(make_document(9))
    assert first.content_digest == second.content_digest
    assert first.revision != second.revision


def every_path(value, path=()):
    if isinstance(value, dict):
        for key, item in value.items():
            yield (*path, key)
            yield from every_path(item, (*path, key))
    elif isinstance(value, list) and value:
        yield from every_path(value[0], (*path, 0))


def with_fresh_digest(document):
    document["content_digest"] = digest_content(document)
    return document


def inside(document, path):
    for step in path:
        document = document[step]
    return document


COMPLETE = make_document(content=make_content(kills=[{"kind": "tenant", "target": "atlas"}]))


@pytest.mark.parametrize("path", list(every_path(COMPLETE)), ids=lambda path: ".".join(map(str, path)))
@pytest.mark.parametrize("wrong", [None, [], {}, 1.5, "", "nonsense", -1, True, "\x00", "9" * 300])
def test_no_field_takes_a_value_it_cannot_mean(path, wrong):
    """Either the value is one the field can have, or the document is refused as SCHEMA naming a field; nothing else happens."""
    document = copy.deepcopy(COMPLETE)
    inside(document, path[:-1])[path[-1]] = wrong
    if path[0] != "content_digest" and not isinstance(wrong, float):
        document = with_fresh_digest(document)
    refusal = None
    try:
        parse_snapshot(document)
    except SnapshotRefused as error:
        refusal = error
    assert refusal is None or (refusal.code in ("SCHEMA", "LIMIT") and refusal.item)


@pytest.mark.parametrize("path", list(every_path(COMPLETE)), ids=lambda path: ".".join(map(str, path)))
def test_every_field_is_needed_and_no_other_is_known(path):
    document = copy.deepcopy(COMPLETE)
    del inside(document, path[:-1])[path[-1]]
    with pytest.raises((SnapshotRefused, KeyError)):
        parse_snapshot(with_fresh_digest(document) if path[0] in document else document)
    document = copy.deepcopy(COMPLETE)
    inside(document, path[:-1])["surprise"] = 1
    with pytest.raises(SnapshotRefused, match="surprise") as caught:
        parse_snapshot(with_fresh_digest(document))
    assert caught.value.code == "SCHEMA"


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (make_content(profiles=[make_profile(), make_profile()]), "SCHEMA"),
        (make_content(flags=[make_flag(), make_flag()]), "SCHEMA"),
        (make_content(flags=[make_flag(profile="unlisted")]), "SCHEMA"),
        (make_content(flags=[make_flag(alpha_scale="-1")]), "SCHEMA"),
        (make_content(base_models=[]), "SCHEMA"),
        (make_content(capabilities=[]), "SCHEMA"),
        (make_content(profiles=[make_profile(components=[make_component()] * 9)]), "LIMIT"),
        (make_content(profiles=[make_profile(components=[make_component(schedule={"kind": "window", "first_token": 1})])]), "SCHEMA"),
        (make_content(profiles=[make_profile(components=[make_component(condition={"threshold": 1})])]), "SCHEMA"),
    ],
)
def test_parts_that_do_not_agree_are_refused_by_compiler_and_reader_alike(content, code):
    for read_it in (compile_it, lambda content: read(make_document(content=content))):
        with pytest.raises(SnapshotRefused) as caught:
            read_it(content)
        assert caught.value.code == code


FORM, OTHER_FORM = "1a" * 32, "1b" * 32
COVERS = [[], [FINGERPRINT], [FORM, FORM], ["short"], [None], FORM, None, {FORM: 1}, [f"{number:064x}" for number in range(17)]]


@pytest.mark.parametrize("covers", COVERS)
def test_covered_forms_are_some_others_than_the_base_model_each_once(covers):
    content = make_content(profiles=[make_profile(covers=covers)], capabilities=[*CAPABILITIES, "covered_forms"])
    for read_it in (compile_it, lambda content: read(make_document(content=content))):
        with pytest.raises(SnapshotRefused) as caught:
            read_it(content)
        assert (caught.value.code, "covers" in caught.value.item) == ("SCHEMA", True)


def test_a_profile_that_covers_forms_asks_for_a_capability_and_for_one_of_its_files_to_be_listed():
    covering = make_profile(covers=[FORM, OTHER_FORM])
    able = sorted([*CAPABILITIES, "covered_forms"])
    models = [{"name": "small", "fingerprint": FORM}]
    snapshot = read_content(profiles=[covering], capabilities=able, base_models=models)
    assert snapshot.profiles[0].covers == (FORM, OTHER_FORM)
    assert [snapshot.profiles[0].is_for(each) for each in (FINGERPRINT, FORM, "1c" * 32)] == [True, True, False]
    assert required_capabilities(snapshot.profiles) == tuple(able)
    for wrong in ({"capabilities": sorted(CAPABILITIES)}, {"base_models": [{"name": "else", "fingerprint": "1c" * 32}]}):
        with pytest.raises(SnapshotRefused) as caught:
            read_content(**{"profiles": [covering], "capabilities": able, "base_models": models, **wrong})
        assert caught.value.code == "SCHEMA"


def test_a_snapshot_of_before_covered_forms_reads_as_it_did():
    profile = read_content().profiles[0]
    assert (profile.covers, "covered_forms" in profile.capabilities, profile.is_for(FINGERPRINT)) == ((), False, True)


def test_a_content_digest_that_is_not_the_contents_is_refused():
    with pytest.raises(SnapshotRefused) as caught:
        read(make_document() | {"content_digest": "00" * 32})
    assert (caught.value.code, caught.value.item) == ("SCHEMA", "content_digest")


@pytest.mark.parametrize("moment", ["2026-02-30T00:00:00Z", "2026-01-01", "2026-01-01T00:00:00+00:00", "10000-01-01T00:00:00Z"])
def test_a_time_that_is_not_one_is_refused(moment):
    with pytest.raises(SnapshotRefused):
        read(make_document() | {"issued_at": moment})


def test_schedules_and_conditions_ask_for_their_capabilities():
    component = make_component(schedule={"kind": "linear", "tokens": 40}, condition={"kind": "intent", "labels": ["refund"]})
    profile = make_profile(components=[component])
    needed = ["condition:intent", "operator:add", "schedule:linear", "scope:generated", "site:resid_post"]
    snapshot = read_content(profiles=[profile], capabilities=needed)
    assert required_capabilities(snapshot.profiles) == tuple(needed)
    assert snapshot.profiles[0].components[0].schedule.parameters == (("tokens", 40),)


@pytest.mark.parametrize(
    ("unit", "expected"), [("absolute", Decimal("0.5")), ("mean_difference", Decimal("20.6")), ("residual", Decimal("90.05"))]
)
def test_every_unit_becomes_an_exact_factor_on_the_unit_vector(unit, expected):
    assert absolute_coefficient(Decimal("0.5"), unit=unit, norm=Decimal("41.2"), mean_residual_norm=Decimal("180.1")) == expected


def test_a_flagged_tenant_is_steered_and_nobody_else():
    snapshot = read_content(flags=[make_flag(alpha_scale="0.5")])
    effective = resolve(snapshot, "harbor", "chat")
    assert (effective.profile.id, effective.reason) == ("harbor-empathy", "flag_on")
    assert effective.components[0].alpha == Decimal("0.25")
    assert effective.components[0].coefficient == Decimal("10.3")
    assert (resolve(snapshot, "atlas", "").profile, resolve(snapshot, "atlas", "").reason) == (None, "no_flag")
    assert resolve(snapshot, "", "").reason == "no_flag"


def test_the_routes_own_flag_wins_over_the_tenants():
    on_route_only = read_content(flags=[make_flag(enabled=False), make_flag(route="billing")])
    assert resolve(on_route_only, "harbor", "billing").reason == "flag_on"
    assert resolve(on_route_only, "harbor", "sales").reason == "flag_off"
    off_on_route = read_content(flags=[make_flag(), make_flag(route="billing", enabled=False)])
    assert resolve(off_on_route, "harbor", "billing").reason == "flag_off"
    assert resolve(off_on_route, "harbor", "sales").reason == "flag_on"


def test_a_scale_of_zero_is_no_steering():
    assert resolve(read_content(flags=[make_flag(alpha_scale="0")]), "harbor", "").reason == "zero_scale"


KILLS = [("everything", ""), ("environment", "production"), ("tenant", "harbor"), ("profile", "harbor-empathy")]


@pytest.mark.parametrize(("kind", "target"), KILLS)
def test_a_kill_wins_over_a_flag_and_the_widest_kill_is_the_reason(kind, target):
    narrower = [{"kind": other, "target": name} for other, name in KILLS[KILLS.index((kind, target)) :]]
    effective = resolve(read_content(kills=narrower), "harbor", "")
    assert (effective.profile, effective.components, effective.reason) == (None, (), f"killed_{kind}")


@pytest.mark.parametrize("kill", [("environment", "staging"), ("tenant", "atlas"), ("profile", "atlas-formality"), ("profile", "harbor")])
def test_a_kill_of_something_else_changes_nothing(kill):
    assert resolve(read_content(kills=[{"kind": kill[0], "target": kill[1]}]), "harbor", "").reason == "flag_on"


def test_two_revisions_of_a_profile_serve_two_tenants_when_their_flags_name_them():
    profiles = [make_profile(revision=2), make_profile(revision=3, components=[make_component(alpha="0.3")])]
    flags = [make_flag(revision=2), make_flag(tenant="atlas", revision=3)]
    snapshot = read_content(profiles=profiles, flags=flags)
    assert resolve(snapshot, "harbor", "").profile.revision == 2
    assert resolve(snapshot, "atlas", "").components[0].alpha == Decimal("0.3")
    with pytest.raises(SnapshotRefused):
        read_content(profiles=profiles, flags=[make_flag()])
    killed = read_content(profiles=profiles, flags=flags, kills=[{"kind": "profile", "target": "harbor-empathy"}])
    assert {resolve(killed, tenant, "").reason for tenant in ("harbor", "atlas")} == {"killed_profile"}


@pytest.mark.parametrize(
    "content",
    [
        make_content(profiles=[make_profile(components=[make_component(alpha="0.7")])]),
        make_content(profiles=[make_profile(components=[make_component(alpha="-0.1")])]),
        make_content(profiles=[make_profile(components=[make_component(alpha_max="2.1")])]),
        make_content(profiles=[make_profile(components=[make_component(alpha_min="-3")])]),
        make_content(flags=[make_flag(alpha_scale="1.3")]),
        make_content(flags=[make_flag(alpha_scale="0.1")], profiles=[make_profile(components=[make_component(alpha_min="0.2")])]),
    ],
)
def test_a_coefficient_outside_what_was_approved_or_capped_is_never_compiled(content):
    with pytest.raises(SnapshotRefused) as caught:
        compile_it(content)
    assert caught.value.code == "ALPHA_CAP"


def test_a_nodes_own_cap_counts_on_top_of_the_snapshots():
    snapshot = read_content()
    assert find_alpha_problem(snapshot) is None
    own = {"absolute": Decimal(10), "mean_difference": Decimal("0.4"), "residual": Decimal("0.1")}
    assert "the cap is 0.4" in (find_alpha_problem(snapshot, own) or "")


@pytest.mark.parametrize("to_unit", ["absolute", "mean_difference", "residual"])
@pytest.mark.parametrize("from_unit", ["absolute", "mean_difference", "residual"])
def test_a_strength_survives_the_way_into_another_unit_and_back(from_unit, to_unit):
    lengths = {"norm": Decimal("41.2"), "mean_residual_norm": Decimal("180.1")}
    there = convert_alpha(Decimal("0.75"), from_unit=from_unit, to_unit=to_unit, **lengths)
    back = convert_alpha(there, from_unit=to_unit, to_unit=from_unit, **lengths)
    assert abs(back - Decimal("0.75")) < Decimal("1e-50")
    # Both stand for the same factor on the unit vector.
    one, other = (absolute_coefficient(alpha, unit=unit, **lengths) for alpha, unit in ((Decimal("0.75"), from_unit), (there, to_unit)))
    assert abs(one - other) < Decimal("1e-50")


@pytest.mark.parametrize(("unit", "norm", "item"), [("furlong", "1", "furlong"), ("mean_difference", "0", "mean_difference")])
def test_a_strength_in_a_unit_of_no_length_is_refused(unit, norm, item):
    with pytest.raises(AlphaError) as refused:
        convert_alpha(Decimal(1), from_unit="absolute", to_unit=unit, norm=Decimal(norm), mean_residual_norm=Decimal(1))
    assert (refused.value.code, refused.value.item) == ("ALPHA_UNIT", item)
