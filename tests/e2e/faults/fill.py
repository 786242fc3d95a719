"""Fill production up to the size that nodes still read: one more tenant with steering would be one too many.

STEERHUB_VAR=… python -m tests.e2e.faults.fill
"""

import os

import django

# Of the payload's limit; the rest is for what else changes meanwhile.
FULL = 0.995


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "steerhub.settings")
    django.setup()
    from registry.models import Environment, Tenant, TenantFlag, User
    from registry.reads.steering import head_snapshot
    from registry.services.flags import set_flag
    from steernode.dsse import MAX_PAYLOAD_BYTES

    production, oscar = Environment.objects.get(name="production"), User.objects.get(username="oscar")
    like = TenantFlag.objects.get(tenant__name="harbor")

    def add(first: int, count: int) -> None:
        tenants = Tenant.objects.bulk_create(
            [Tenant(name=f"filler-{number:06}") for number in range(first, first + count)], batch_size=1_000
        )
        stated = {name: getattr(like, name) for name in ("environment", "revision", "alpha_scale", "rollout")}
        flags = [
            TenantFlag(tenant=tenant, route="r" * 100, enabled=True, reason="Fills.", changed_by=oscar, **stated) for tenant in tenants
        ]
        TenantFlag.objects.bulk_create(flags, batch_size=1_000)

    def publish() -> int:
        """The payload's size, after a change through the service."""
        flag = TenantFlag.objects.get(pk=like.pk)
        set_flag(
            production,
            flag.tenant,
            revision=flag.revision,
            enabled=True,
            alpha_scale=flag.alpha_scale,
            reason="Publishes what was filled in.",
            actor=oscar,
        )
        head = head_snapshot(production)
        assert head is not None
        return len(head.payload)

    before = publish()
    add(0, 100)
    each = (publish() - before) / 100
    # Some are longer than others by a digit; so the last few are added by what was measured, not by what was guessed.
    added, size = 100, publish()
    while (room := FULL * MAX_PAYLOAD_BYTES - size) > each:
        count = int(room / each)
        add(added, count)
        added, size = added + count, publish()
    print(f"{added} tenants, {size} of {MAX_PAYLOAD_BYTES} bytes")


if __name__ == "__main__":
    main()
