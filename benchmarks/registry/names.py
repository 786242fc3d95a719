"""What everything in a filled hub is called: whoever fills it and whoever asks it agree on this file alone."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

ENVIRONMENTS = ("development", "production", "qualification", "staging")
BASE_MODELS = ("llama-8b", "llama-70b", "mistral-24b", "qwen-32b")
AXES = ("empathy", "formality", "brevity", "refusal", "step-by-step", "hedging", "optimism", "jargon")
# Who the benchmark acts as.
OPERATOR = "oscar"
RISK_CLASSES = ("low", "low", "low", "medium", "high")
# Of every vector.
VERSIONS = 10


def vector_name(number: int) -> str:
    return f"{AXES[number % len(AXES)]}-{number:05}"


def profile_name(number: int) -> str:
    return f"profile-{number:05}"


def tenant_name(number: int) -> str:
    return f"tenant-{number:04}"


def route_name(number: int) -> str:
    """The first is for every route without a flag of its own."""
    return f"route-{number}" if number else ""


def digest_of(*parts: Any) -> str:
    """Some digest, the same for the same parts."""
    return sha256("/".join(map(str, parts)).encode()).hexdigest()
