"""A name for each parameter of the API's paths."""

FOREIGN, NOTHING = "atlas", "ghost"
NAMES = {
    "users/": "everything",
    "base-models/": "harbor-support",
    "contrast-sets/": "empathy",
    "eval-suites/": "facts",
    "gate-sets/": "house-tone",
    "probes/": "refund-intent",
    "prompt-sets/": "intents",
    "vectors/": "empathy",
    "profiles/": "harbor-empathy",
    "tenants/": FOREIGN,
    "nodes/": "node-1",
    "risk-policies/": "low",
}
