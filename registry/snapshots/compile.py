"""What the nodes of one environment are told, as data. No times and no revision: the same record compiles to the same content."""

from typing import Any

from registry.models import ALPHA_CAPS, BaseModel, Environment
from registry.selectors import engaged_kills, live_flags, revision_document
from steerkit.canonical import format_decimal

MAX_COMPONENTS = 8


def compile_content(environment: Environment) -> dict[str, Any]:
    """The content of the environment's next snapshot. A flag that is off, or a revision no longer approved, is left out."""
    profiles: dict[tuple[str, int], dict[str, Any]] = {}
    flags = []
    for flag in live_flags(environment):
        revision = flag.revision
        key = (revision.profile.name, revision.number)
        if key not in profiles:
            document = revision_document(revision)
            profiles[key] = {
                "id": revision.profile.name,
                "revision": revision.number,
                "revision_digest": revision.digest,
                "evidence_digest": revision.evaluation.digest if revision.evaluation else "",
                **{name: document[name] for name in ("base_model", "risk_class", "stale_policy", "max_staleness_seconds", "components")},
            }
        flags.append(
            {
                "tenant": flag.tenant.name,
                "route": flag.route,
                "profile": revision.profile.name,
                "revision": revision.number,
                "enabled": True,
                "alpha_scale": format_decimal(flag.alpha_scale),
            }
        )
    components = [component for profile in profiles.values() for component in profile["components"]]
    capabilities = {
        *(f"operator:{component['operator']}" for component in components),
        *(f"site:{component['site']}" for component in components),
        *(f"scope:{component['scope']}" for component in components),
        *(f"schedule:{component['schedule']['kind']}" for component in components),
    }
    return {
        # Every registered one: a node whose files are none of these refuses the snapshot, whether or not it would be steered.
        "base_models": list(BaseModel.objects.order_by("name", "fingerprint").values("name", "fingerprint")),
        "profiles": [profiles[key] for key in sorted(profiles)],
        "flags": flags,
        "kills": sorted(
            ({"kind": kill.kind, "target": kill.target} for kill in engaged_kills(environment)),
            key=lambda kill: (kill["kind"], kill["target"]),
        ),
        "limits": {"max_components": MAX_COMPONENTS, "alpha_cap": {str(unit): cap for unit, cap in ALPHA_CAPS.items()}},
        "capabilities": sorted(capabilities),
    }
