"""What an extraction goes through, in its order, by what is done there."""

from __future__ import annotations

PAIRS = "looking at the pairs"
SCORER = "training the scorer"
SIDES = "asking under both instructions"
DIRECTIONS = "extracting a direction for each layer"
DOSES = "finding each layer's doses"
SCREENING = "screening the layers"
REPLIES = "writing replies with the best layers"
TRACE = "tracing where it is carried"
