"""What an evaluation goes through, in its order."""

from __future__ import annotations

PAIRS = "answering the pairs"
DOSE = "dose-response"
CONTROLS = "controls"
PROMISE = "the select split"
ANSWERS = "answering"
LOSSES = "comparing"
RANDOM = "random directions"
ATTACKS = "attacking"
TURNS = "several turns"
TOGETHER = "composing"
SPEED = "timing"
