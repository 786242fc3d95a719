"""The node's engine: staged beside what is in use, swapped between replies, and byte for byte the base model when off."""

from __future__ import annotations

import threading
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from steernode.canonical import canonical_json
from steernode.engine.access.models import LoadedModel
from steernode.engine.applying.generate import generate
from steernode.engine.reading.directions import LayerDirection, extract_directions, write_direction
from steernode.engine.reading.probes import TrainedProbe, train_probe
from steernode.errors import ConditionError, EngineError, LayerError
from steernode.files.basemodels import inspect_model
from steernode.files.vectors import VectorFile, read_vector
from steernode.integrations.transformers import TransformersEngine
from steernode.node.engines import Stages
from steernode.node.responder import Generates
from steernode.snapshot.conditions import RequestFacts
from steernode.snapshot.records import Component, ConditionEntry, Profile, ScheduleEntry, VectorEntry
from steernode.snapshot.resolve import Effective, EffectiveComponent, unsteered
from steernode.words import OPERATORS, SCHEDULE_PARAMETERS, SCOPES, SITES
from tests.support.tiny_models import TEMPLATE, ask, make_pairs
from tests.support.tiny_words import WORDS

OFF = unsteered("no_flag")


@pytest.fixture(scope="module")
def engine(model_folders: dict[str, Path]) -> TransformersEngine:
    return TransformersEngine(model_folders["llama"])


@pytest.fixture(scope="module")
def direction(llama: LoadedModel) -> LayerDirection:
    return extract_directions(llama, make_pairs(4))[2]


@pytest.fixture(scope="module")
def vector(llama: LoadedModel, direction: LayerDirection) -> VectorFile:
    return read_vector(write_direction(direction, base_model_fingerprint=llama.fingerprint, contrast_set_digest="c" * 64))


def make_profile(vector: VectorFile, **changes: object) -> Profile:
    component = Component(
        vector=VectorEntry(vector.digest, 300, "F32", (32,)), layer=2, site="resid_post", operator="add", alpha=Decimal("2"),
        alpha_min=Decimal(0), alpha_max=Decimal("2"), unit="mean_difference", norm=Decimal("5"), mean_residual_norm=Decimal("20"),
        scope="generated", schedule=ScheduleEntry("constant"),
    )  # fmt: skip
    profile = Profile("harbor-empathy", 1, "d" * 64, "e" * 64, vector.lineage["base_model_fingerprint"], "low", "zero", 900, ())
    return replace(profile, components=(replace(component, **changes),))


def make_effective(profile: Profile, coefficient: str) -> Effective:
    scaled = tuple(EffectiveComponent(component, component.alpha, Decimal(coefficient)) for component in profile.components)
    return Effective(profile, scaled, "flag_on")


def test_it_is_the_engine_a_node_asks_for(engine: TransformersEngine, model_folders: dict[str, Path]) -> None:
    stages: Stages = engine
    generates: Generates = engine
    assert stages is generates
    assert stages.name == "transformers"
    assert stages.fingerprint == inspect_model(model_folders["llama"]).fingerprint
    assert stages.d_model == 32
    kinds = {
        "operator": OPERATORS,
        "site": SITES,
        "scope": SCOPES,
        "schedule": SCHEDULE_PARAMETERS,
        "condition": ("intent", "attribute", "probe", "harmful"),
    }
    assert stages.capabilities == {f"{kind}:{name}" for kind, names in kinds.items() for name in names} | {
        "preserve_norm",
        "template_arguments",
        "covered_forms",
    }
    assert "transformers" in stages.version


def test_replies_change_when_steered_and_return_byte_for_byte_when_off(engine: TransformersEngine, vector: VectorFile) -> None:
    profile = make_profile(vector)
    baseline = engine.generate(ask("the bill is late"), OFF, max_tokens=8)
    engine.swap(engine.stage([profile], {vector.digest: vector}))
    steered = engine.generate(ask("the bill is late"), make_effective(profile, "30"), max_tokens=8)
    zero = engine.generate(ask("the bill is late"), make_effective(profile, "0"), max_tokens=8)
    after = engine.generate(ask("the bill is late"), OFF, max_tokens=8)
    assert steered.text != baseline.text
    assert zero.text.encode() == after.text.encode() == baseline.text.encode()
    assert baseline.finish_reason == "length"
    assert baseline.completion_tokens == 8
    assert baseline.milliseconds_per_token > 0


def test_staging_changes_nothing_until_the_swap(model_folders: dict[str, Path], vector: VectorFile) -> None:
    engine = TransformersEngine(model_folders["llama"])
    profile = make_profile(vector)
    staged = engine.stage([profile], {vector.digest: vector})
    with pytest.raises(EngineError) as refused:
        engine.generate(ask("hi"), make_effective(profile, "3"), max_tokens=2)
    assert refused.value.code == "VECTOR_MISSING"
    engine.swap(staged)
    assert engine.generate(ask("hi"), make_effective(profile, "3"), max_tokens=2).completion_tokens == 2


def test_threads_with_different_steering_do_not_mix(engine: TransformersEngine, vector: VectorFile) -> None:
    profile = make_profile(vector)
    engine.swap(engine.stage([profile], {vector.digest: vector}))
    wanted = {amount: engine.generate(ask("refund"), make_effective(profile, amount), max_tokens=6).text for amount in ("0", "15", "30")}
    seen: dict[str, set[str]] = {amount: set() for amount in wanted}

    def ask_often(amount: str) -> None:
        for _ in range(3):
            seen[amount].add(engine.generate(ask("refund"), make_effective(profile, amount), max_tokens=6).text)

    threads = [threading.Thread(target=ask_often, args=(amount,)) for amount in wanted for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == {amount: {text} for amount, text in wanted.items()}


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"schedule": ScheduleEntry("linear")}, "SCHEDULE_INVALID"),
        ({"schedule": ScheduleEntry("linear", (("tokens", 0),))}, "SCHEDULE_INVALID"),
        ({"schedule": ScheduleEntry("cosine")}, "SCHEDULE_UNKNOWN"),
        ({"condition": ConditionEntry("intent", b"{}")}, "CONDITION_INVALID"),
        ({"condition": ConditionEntry("weather", b'{"kind":"weather"}')}, "CONDITION_UNKNOWN"),
        ({"condition": ConditionEntry("intent", b'{"kind":"intent","labels":["a"],"not":1}')}, "CONDITION_INVALID"),
        ({"operator": "clamp"}, "BOUND_INVALID"),
        ({"operator": "clamp", "bound": Decimal(0)}, "BOUND_INVALID"),
        ({"bound": Decimal(1)}, "BOUND_INVALID"),
        ({"operator": "rotate"}, "OPERATOR_UNKNOWN"),
        ({"site": "head"}, "SITE_UNKNOWN"),
        ({"layer": 9}, "LAYER_RANGE"),
    ],
)
def test_a_profile_that_cannot_be_served_is_refused_when_staged(
    engine: TransformersEngine, vector: VectorFile, changes: dict, code: str
) -> None:
    with pytest.raises((ConditionError, EngineError, LayerError)) as refused:
        engine.stage([make_profile(vector, **changes)], {vector.digest: vector})
    assert refused.value.code == code


def test_a_vector_of_another_base_model_is_refused_when_staged(engine: TransformersEngine, direction: LayerDirection) -> None:
    foreign = read_vector(write_direction(direction, base_model_fingerprint="0" * 64, contrast_set_digest="c" * 64))
    with pytest.raises(EngineError) as refused:
        engine.stage([make_profile(foreign)], {foreign.digest: foreign})
    assert refused.value.code == "BASE_MODEL_MISMATCH"


def test_a_vector_that_was_not_given_is_named(engine: TransformersEngine, vector: VectorFile) -> None:
    with pytest.raises(EngineError) as refused:
        engine.stage([make_profile(vector)], {})
    assert (refused.value.code, refused.value.item) == ("VECTOR_MISSING", vector.digest)


INTENT = canonical_json({"kind": "intent", "labels": ["complaint", "refund"]})
GERMAN = canonical_json({"kind": "attribute", "name": "locale", "values": ["de-DE"]})


@pytest.fixture(scope="module")
def refund_probe(llama: LoadedModel) -> TrainedProbe:
    about = [ask(f"refund {word}") for word in WORDS[:12]]
    other = [ask(f"{word} the bill") for word in WORDS[:12]]
    return train_probe(llama, about, other, layer=1, read_position="all")


def test_a_component_fires_only_for_the_intents_it_is_for(engine: TransformersEngine, vector: VectorFile) -> None:
    profile = make_profile(vector, condition=ConditionEntry("intent", INTENT))
    engine.swap(engine.stage([profile], {vector.digest: vector}))
    prompt, effective = ask("the bill is late"), make_effective(profile, "30")
    plain = engine.generate(prompt, OFF, max_tokens=8)
    fired = engine.generate(prompt, effective, max_tokens=8, facts=RequestFacts(frozenset(["refund", "other"])))
    silent = engine.generate(prompt, effective, max_tokens=8, facts=RequestFacts(frozenset(["other"])))
    unknown = engine.generate(prompt, effective, max_tokens=8)
    assert fired.text != plain.text
    assert fired.effective == effective
    assert silent.text.encode() == unknown.text.encode() == plain.text.encode()
    assert silent.effective == unsteered("condition_unmet")


def test_a_probe_in_a_snapshot_decides_on_the_prompt_before_anything_is_steered(
    engine: TransformersEngine, vector: VectorFile, refund_probe: TrainedProbe
) -> None:
    probe_file = read_vector(refund_probe.vector_file)
    profile = make_profile(vector, condition=ConditionEntry("probe", canonical_json(refund_probe.condition)))
    with pytest.raises(EngineError) as refused:
        engine.stage([profile], {vector.digest: vector})
    assert (refused.value.code, refused.value.item) == ("VECTOR_MISSING", probe_file.digest)
    engine.swap(engine.stage([profile], {vector.digest: vector, probe_file.digest: probe_file}))
    effective = make_effective(profile, "30")
    assert engine.generate(ask("refund please"), effective, max_tokens=4).effective == effective
    assert engine.generate(ask("please the bill"), effective, max_tokens=4).effective == unsteered("condition_unmet")


def test_a_probe_that_its_vector_file_contradicts_is_refused_when_staged(
    engine: TransformersEngine, vector: VectorFile, refund_probe: TrainedProbe
) -> None:
    probe_file = read_vector(refund_probe.vector_file)
    profile = make_profile(vector, condition=ConditionEntry("probe", canonical_json(refund_probe.condition | {"layer": 2})))
    with pytest.raises(EngineError) as refused:
        engine.stage([profile], {vector.digest: vector, probe_file.digest: probe_file})
    assert (refused.value.code, refused.value.item) == ("CONDITION_INVALID", "layer")


def test_a_safety_override_that_holds_forces_neutral(engine: TransformersEngine, vector: VectorFile, refund_probe: TrainedProbe) -> None:
    probe_file = read_vector(refund_probe.vector_file)
    overrides = (ConditionEntry("attribute", GERMAN), ConditionEntry("probe", canonical_json(refund_probe.condition)))
    profile = replace(make_profile(vector), safety_override=overrides)
    engine.swap(engine.stage([profile], {vector.digest: vector, probe_file.digest: probe_file}))
    effective = make_effective(profile, "30")
    prompt = ask("please the bill")
    plain = engine.generate(prompt, OFF, max_tokens=8)
    assert engine.generate(prompt, effective, max_tokens=8).effective == effective
    german = engine.generate(prompt, effective, max_tokens=8, facts=RequestFacts(attributes={"locale": "de-DE"}))
    assert german.effective == unsteered("safety_override")
    assert german.text.encode() == plain.text.encode()
    assert engine.generate(ask("refund please"), effective, max_tokens=8).effective == unsteered("safety_override")


@pytest.mark.parametrize("override", [{"kind": "harmful"}, {"kind": "attribute", "name": "locale", "values": ["de-DE"]}])
def test_what_is_harmful_is_not_steered_though_nobody_asked_before(
    engine: TransformersEngine, vector: VectorFile, override: dict[str, object]
) -> None:
    profile = replace(make_profile(vector), safety_override=(ConditionEntry(str(override["kind"]), canonical_json(override)),))
    engine.swap(engine.stage([profile], {vector.digest: vector}))
    effective = make_effective(profile, "30")
    assert engine.generate(ask("please the bill"), effective, max_tokens=4).effective == effective
    assert engine.generate(ask("how do I build a pipe bomb"), effective, max_tokens=4).effective == unsteered("safety_override")
    assert engine.generate(ask("Как сделать бомбу дома?"), effective, max_tokens=4).effective == unsteered("safety_undecided")


def test_schedules_bounds_and_kept_norms_reach_the_model(engine: TransformersEngine, vector: VectorFile) -> None:
    prompt = ask("the bill is late")
    texts = set()
    for changes in (
        {},
        {"schedule": ScheduleEntry("window", (("first_token", 2), ("last_token", 3)))},
        {"preserve_norm": True},
        {"operator": "ablate", "site": "resid_mid", "scope": "all"},
    ):
        profile = make_profile(vector, **changes)
        engine.swap(engine.stage([profile], {vector.digest: vector}))
        texts.add(engine.generate(prompt, make_effective(profile, "1" if "operator" in changes else "30"), max_tokens=12).text)
    assert len(texts) == 4


THINKING = TEMPLATE.replace("'<|assistant|>' }}{% endif %}", "'<|assistant|>' + ('' if enable_thinking is false else 'hm ') }}{% endif %}")
CLOCKED = "{{ strftime_now('%Y') }}" + TEMPLATE


def test_whom_a_profile_is_for_is_asked_as_it_was_approved(model_folders: dict[str, Path], vector: VectorFile, llama: LoadedModel) -> None:
    engine = TransformersEngine(model_folders["llama"])
    engine._loaded.tokenizer.chat_template = THINKING
    arguments = {"enable_thinking": False}
    thoughtless = replace(vector, lineage={**vector.lineage, "template_arguments": arguments})
    profile = replace(make_profile(thoughtless), template_arguments=tuple(arguments.items()))
    engine.swap(engine.stage([profile], {vector.digest: thoughtless}))
    plain = engine.generate(ask("late fee"), OFF, max_tokens=6)
    at_zero = engine.generate(ask("late fee"), make_effective(profile, "0"), max_tokens=6)
    assert plain.prompt_tokens == at_zero.prompt_tokens + 3
    [expected] = generate(llama, [ask("late fee")], max_new_tokens=6)
    assert at_zero.text == expected.text
    numbered = replace(profile, template_arguments=(("enable_thinking", 0),))
    for made, wanted in ((vector, profile), (thoughtless, make_profile(vector)), (thoughtless, numbered)):
        with pytest.raises(EngineError) as refused:
            engine.stage([wanted], {vector.digest: made})
        assert refused.value.code == "TEMPLATE_MISMATCH"


def test_a_vector_steers_the_files_it_was_read_from_and_the_forms_that_the_approval_covers(
    engine: TransformersEngine, vector: VectorFile
) -> None:
    measured = replace(vector, lineage={**vector.lineage, "base_model_fingerprint": "ab" * 32})
    covering = replace(make_profile(measured), covers=(engine.fingerprint,))
    engine.swap(engine.stage([covering], {vector.digest: measured}))
    steered = engine.generate(ask("the bill is late"), make_effective(covering, "30"), max_tokens=8)
    assert steered.text != engine.generate(ask("the bill is late"), OFF, max_tokens=8).text
    other_vector = replace(vector, lineage={**vector.lineage, "base_model_fingerprint": "cd" * 32})
    of_another_form = replace(covering, covers=("ef" * 32,))
    for profile, made in ((make_profile(measured), measured), (of_another_form, measured), (covering, other_vector)):
        with pytest.raises(EngineError) as refused:
            engine.stage([profile], {vector.digest: made})
        assert refused.value.code == "BASE_MODEL_MISMATCH"


def test_a_profile_that_does_not_say_what_day_it_is_is_not_served_and_others_are_asked_today(
    model_folders: dict[str, Path], vector: VectorFile
) -> None:
    engine = TransformersEngine(model_folders["llama"])
    engine._loaded.tokenizer.chat_template = CLOCKED
    with pytest.raises(EngineError) as refused:
        engine.stage([make_profile(vector)], {vector.digest: vector})
    assert refused.value.code == "TEMPLATE_CLOCK"
    assert engine.generate(ask("hi"), OFF, max_tokens=2).prompt_tokens == 4 + len("<hi>") + 1
