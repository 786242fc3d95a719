"""The words that the record, the signed documents and the engine share, each list once."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

UNITS = ("absolute", "mean_difference", "residual")
SITES = ("resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out", "embedding")
OPERATORS = ("add", "ablate", "clamp")
# Operators whose α is a strength from 0 to 1 and not a length.
STRENGTH_OPERATORS = ("ablate", "clamp")
SCOPES = ("generated", "assistant", "prompt", "all")
STALE_POLICIES = ("zero", "keep")
# A rollout of 100 percent.
EVERYBODY = Decimal(100)
KILL_KINDS = ("everything", "environment", "tenant", "profile")
# The whole-number parameters of each schedule, counted in generated tokens.
SCHEDULE_PARAMETERS: Mapping[str, tuple[str, ...]] = {
    "constant": (),
    "linear": ("tokens",),
    "exponential": ("half_life_tokens",),
    "window": ("first_token", "last_token"),
}
# What each may be at least: a decay that takes no token at all is no decay.
SCHEDULE_LEAST: Mapping[str, int] = {"tokens": 1, "half_life_tokens": 1, "first_token": 0, "last_token": 0}
# Of a profile: what is judged and served together.
MAX_COMPONENTS = 8
MAX_ARMS = 10
MAX_ARM_WEIGHT = 1000
