"""What an evaluation goes through, in its order: the cheapest first, so that what fails fails early."""

from __future__ import annotations

PAIRS = "answering the pairs"
DOSE = "dose-response"
TICKETS = "answering the tickets"
REQUESTS = "answering requests to refuse"
LOSSES = "comparing"
KNOWN = "answering questions"
CONTROLS = "controls"
RANDOM = "random directions"
ATTACKS = "attacking"
TURNS = "several turns"
PROMISE = "the select split"
TOGETHER = "composing"
SPEED = "timing"
