"""What a profile may be for, and what steering cannot do: the technique decision table. docs/concepts.md shows it."""

from dataclasses import dataclass

from django.db import models


class Purpose(models.TextChoices):
    TONE = "tone"
    STYLE = "style"
    SAFETY = "safety"
    REASONING = "reasoning"
    FORMAT = "format"


@dataclass(frozen=True, slots=True)
class Technique:
    """What fits a wish, and why. `use` is "steering" for the purposes a profile may have, and the alternative for any other."""

    wish: str
    use: str
    why: str


# By the word that people write as a purpose.
TECHNIQUES: dict[str, Technique] = {
    "tone": Technique(
        "warmer, calmer or firmer replies", "steering", "how a thing is said is one direction of the residual stream, and can be undone"
    ),
    "style": Technique(
        "another register, or shorter replies", "steering", "a habit of wording moves with one direction and costs little else"
    ),
    "safety": Technique(
        "a model that refuses more, or refuses less of what is harmless",
        "steering",
        "refusal is close to one direction; guardrails stay in place, because a direction guarantees nothing",
    ),
    "reasoning": Technique(
        "a habit of thinking, such as step by step", "steering", "the skill is there already, and steering makes its use more likely"
    ),
    "format": Technique(
        "lists, headings, or plain sentences", "steering", "layout is a habit too; where it must hold, constrain the decoding"
    ),
    "facts": Technique(
        "other facts, or newer ones",
        "retrieval or knowledge editing",
        "a direction shifts every reply by the same amount and holds no statement that could be true or false",
    ),
    "skill": Technique(
        "something the model cannot do", "LoRA or SFT", "a direction makes likelier what the weights can do, and adds nothing to it"
    ),
    "unlearning": Technique(
        "something the model must no longer say",
        "guardrails",
        "what a direction hides is still in the weights, and another prompt finds it",
    ),
}
