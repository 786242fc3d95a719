"""One tenant for each try, all steered by one approved profile: a kill of one leaves the others, and nothing has to be lifted.

STEERHUB_VAR=… python -m benchmarks.stop.tenants COUNT
"""

from __future__ import annotations

import os
import sys

import django


def tenant_name(number: int) -> str:
    return f"caller-{number:03}"


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "steerhub.settings")
    django.setup()
    from registry.models import TenantFlag, User
    from registry.services.flags import set_flag
    from registry.services.tenants import create_tenant

    # Neutral is to come from the kill alone, so the profile is the one that outlasts the hub.
    like, oscar = TenantFlag.objects.get(tenant__name="atlas"), User.objects.get(username="oscar")
    for number in range(int(sys.argv[1])):
        tenant = create_tenant(tenant_name(number), actor=oscar)
        set_flag(
            like.environment,
            tenant,
            revision=like.revision,
            enabled=True,
            alpha_scale=like.alpha_scale,
            reason="To be killed.",
            actor=oscar,
        )


if __name__ == "__main__":
    main()
