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
STALE_POLICIES = ("keep", "zero")
# A rollout of 100 percent.
EVERYBODY = Decimal(100)
# What the hub says to whoever comes with a token that was a node's and is none any more; nodes let go of what they have.
ENDED_CODES = ("NODE_WITHDRAWN", "TOKEN_REPLACED")
KILL_KINDS = ("profile", "tenant", "environment", "everything")
CONDITION_KINDS = ("intent", "attribute", "probe")
# How an intent is written, by whoever conditions on it, sends it or labels an item with it.
LABEL_PATTERN = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}"
# What a safety override may hang on beside those: what a node itself finds in the text of a request.
HARMFUL = "harmful"
OVERRIDE_KINDS = (*CONDITION_KINDS, HARMFUL)
METHODS = ("mean_difference", "pca_uncentred", "logistic_probe", "whitened_difference")
READ_POSITIONS = ("last_prompt_token", "assistant_tokens", "all")
PROBE_READ_POSITIONS = ("last_prompt_token", "all")
# Of a stored vector.
DTYPES = ("F32", "F16", "BF16")
SUITE_KINDS = ("behaviour", "factual", "safety", "fluency", "capability")
SPLITS = ("select", "test")
# What a reply to a request does.
REPLY_LABELS = ("compliance", "incapacity", "refusal")
# Of labelled prompts: what a probe is fitted to, what its layer and threshold are chosen on, and what it is judged on.
PROMPT_SPLITS = ("train", "select", "test")
# The whole-number parameters of each schedule, counted in generated tokens.
SCHEDULE_PARAMETERS: Mapping[str, tuple[str, ...]] = {
    "constant": (),
    "linear": ("tokens",),
    "exponential": ("half_life_tokens",),
    "window": ("first_token", "last_token"),
}
# What each may be at least: a decay that takes no token at all is no decay.
SCHEDULE_LEAST: Mapping[str, int] = {"tokens": 1, "half_life_tokens": 1, "first_token": 0, "last_token": 0}
# In generated tokens. No reply is longer.
LONGEST_SCHEDULE = 1_000_000
# Of a profile: its components, and the conditions of its safety override.
MAX_COMPONENTS = 8
MAX_OVERRIDES = 8
# Per condition, in words and values: more than any gateway sends.
MAX_CONDITION_ENTRIES = 64
# What a model is served under, in characters.
MAX_SYSTEM_MESSAGE = 8000
# What the flag of a route may take from the tenant's flag.
FLAG_FIELDS = ("revision", "alpha_scale", "rollout", "arms", "override")
MAX_ARMS = 10
# Of one approval: beside what it was measured on.
MAX_COVERED_FORMS = 16
MAX_ARM_WEIGHT = 1000
# What OFREP answers as the variant of a request in no arm: an arm of this name, however it is written, would read as its opposite.
RESERVED_ARM_NAMES = ("on", "off")
# The argument of a chat template that says what its clock shows: a date, or a date and a time.
CLOCK_ARGUMENT = "strftime_now"
# Of what a recipe gives to the chat template. The names below are what the engine and the tokenizer give it themselves.
MAX_TEMPLATE_ARGUMENTS = 16
MAX_TEMPLATE_TEXT = 500
NO_TEMPLATE_ARGUMENTS = (
    "messages",
    "tools",
    "documents",
    "add_generation_prompt",
    "continue_final_message",
    "bos_token",
    "eos_token",
    "unk_token",
    "sep_token",
    "pad_token",
    "cls_token",
    "mask_token",
    "additional_special_tokens",
    "raise_exception",
    "dict",
    "namespace",
)
# No α of a unit goes beyond these, whatever a policy allows.
ALPHA_CAPS = {"absolute": "1000", "mean_difference": "2", "residual": "1"}
# In the place of a grid of α: each layer's own, by how far it moves the next token.
AUTO_ALPHAS = "auto"
# The fewest pairs in the select split of a contrast set that a search screens layers on; with fewer, whoever asks names the layers.
MIN_PAIRS_FOR_SCREEN = 4
# Of each class in each split of a prompt set: fewer, and a rate says nothing.
LEAST_PROMPTS = 20
