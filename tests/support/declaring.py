"""Manifests as documents, and what a plan says of them."""


def manifest(kind, name, /, *, manager="", labels=None, **spec):
    metadata = {"name": name} | ({"manager": manager} if manager else {}) | ({"labels": labels} if labels else {})
    return {"apiVersion": "steerhub/v1", "kind": kind, "metadata": metadata, "spec": spec}


def flag(name="production/harbor", /, *, enabled=True, manager="", **spec):
    body = {"profile": "harbor-empathy", "revision": 1, "enabled": enabled, "reason": "go"}
    return manifest("TenantFlag", name, manager=manager, **{**body, **spec})


def profile_manifest(name="warm", /, **spec):
    body = {"intent": "Warm.", "purpose": "tone", "axis": "empathy", "riskClass": "low"}
    return manifest("SteeringProfile", name, **{**body, **spec})


def actions(plan):
    return {f"{step.kind} {step.name}": step.action for step in plan.steps}
