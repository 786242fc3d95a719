"""A snapshot is compiled from entries that are kept; what is kept must never be older than the record."""

import contextlib
import json
from decimal import Decimal

import pytest
from django.db import transaction

from registry.models import Environment, FlagArm, Tenant, TenantFlag
from registry.reads import inheritance
from registry.reads.steering import head_snapshot
from registry.services.flags import ArmSpec, set_flag
from registry.services.profiles import retire_revision
from registry.snapshots import compile as compiling
from steernode.canonical import canonical_json
from steernode.snapshot import content as snapshot_content


def forget_entries() -> None:
    inheritance._kept.clear()
    for kept in (compiling._list_tenant, compiling._write_flags, compiling._write_profile, snapshot_content._check_tenant):
        kept.cache_clear()


def compile_anew(environment: Environment) -> str:
    forget_entries()
    return compiling.compile_content(environment).digest


def published(environment: Environment) -> dict:
    return json.loads(payload_of(environment))


def payload_of(environment: Environment) -> bytes:
    return head_snapshot(environment).payload


def make_flags(environment, revision, actor, *, count: int) -> None:
    tenants = Tenant.objects.bulk_create([Tenant(name=f"tenant-{number}") for number in range(count)])
    TenantFlag.objects.bulk_create(
        TenantFlag(environment=environment, tenant=tenant, revision=revision, enabled=True, reason="test", changed_by=actor)
        for tenant in tenants
    )


def test_every_change_compiles_as_if_nothing_had_been_kept(production, harbor, atlas, approved, oscar):
    def put(tenant, **changes):
        values = {"revision": approved, "enabled": True, "alpha_scale": Decimal(1), "reason": "test", "actor": oscar}
        set_flag(production, tenant, **{**values, **changes})

    forget_entries()
    changes = [
        lambda: put(harbor),
        lambda: put(atlas, alpha_scale=Decimal("0.5")),
        lambda: put(atlas, alpha_scale=Decimal("0.25"), route="chat"),
        lambda: put(harbor, enabled=False),
        lambda: put(harbor, alpha_scale=Decimal("0.500")),
        lambda: retire_revision(approved.pk, reason="test", actor=oscar),
    ]
    seen = set()
    for change in changes:
        change()
        kept = compiling.compile_content(production).digest
        assert kept == compile_anew(production) == head_snapshot(production).content_digest
        seen.add(kept)
    assert len(seen) == len(changes)


@pytest.fixture
def in_arms(production, harbor, approved, oscar) -> TenantFlag:
    arms = [ArmSpec("warm", 9, alpha_scale=Decimal("0.5")), ArmSpec("control", 1, alpha_scale=Decimal(0))]
    return set_flag(production, harbor, revision=approved, enabled=True, arms=arms, reason="test", actor=oscar)


PAST_THE_SERVICES = {
    "a flag is scaled": lambda flag: TenantFlag.objects.filter(pk=flag.pk).update(alpha_scale=Decimal("0.75")),
    "an arm is scaled": lambda flag: flag.arms.filter(name="warm").update(alpha_scale=Decimal("0.75")),
    "an arm is added": lambda flag: FlagArm.objects.create(flag=flag, position=2, name="cold", weight=1),
    "an arm is deleted": lambda flag: flag.arms.filter(name="warm").delete(),
    "a flag is deleted": lambda flag: flag.delete(),
}


@pytest.mark.parametrize("change", PAST_THE_SERVICES.values(), ids=PAST_THE_SERVICES)
def test_what_is_changed_past_the_services_is_not_taken_from_what_was_kept(production, in_arms, change):
    before = compiling.compile_content(production).digest
    change(in_arms)
    kept = compiling.compile_content(production).digest
    assert kept == compile_anew(production) != before


def test_what_was_compiled_in_a_transaction_that_failed_is_not_kept(production, in_arms):
    before = compiling.compile_content(production).digest
    with contextlib.suppress(KeyboardInterrupt), transaction.atomic():
        PAST_THE_SERVICES["an arm is scaled"](in_arms)
        inside = compiling.compile_content(production).digest
        raise KeyboardInterrupt
    assert compiling.compile_content(production).digest == before != inside
    PAST_THE_SERVICES["a flag is scaled"](in_arms)
    assert compiling.compile_content(production).digest == compile_anew(production)


def test_signed_bytes_are_canonical(production, flag_on):
    assert payload_of(production) == canonical_json(published(production))


def test_flags_are_in_the_order_of_tenant_and_route(production, approved, oscar):
    for name in ("b", "B", "a-2", "a_1", "a"):
        tenant = Tenant.objects.create(name=name)
        for route in ("chat", ""):
            set_flag(production, tenant, route=route, revision=approved, enabled=True, alpha_scale=Decimal(1), reason="test", actor=oscar)
    listed = [(flag["tenant"], flag["route"]) for flag in published(production)["flags"]]
    assert listed == sorted(listed)


@pytest.mark.django_db
def test_a_flip_takes_as_many_queries_with_one_flag_as_with_fifty(
    production, harbor, approved, oscar, flag_on, django_assert_max_num_queries
):
    def flip(scale: str) -> int:
        with django_assert_max_num_queries(60) as queries:
            set_flag(production, harbor, revision=approved, enabled=True, alpha_scale=Decimal(scale), reason="test", actor=oscar)
        return len(queries)

    flip("0.5")
    with_one = flip("0.25")
    make_flags(production, approved, oscar, count=50)
    flip("0.5")
    assert flip("0.25") == with_one
    assert len(published(production)["flags"]) == 51
