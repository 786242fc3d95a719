"""The torch side of steerkit: load a base model, capture activations, make directions, steer, sweep, measure.

The data flows through the files in this order: models, encoding, sites, capture, directions, positions, operators, steer,
cache, generate, metrics, stats, rubric, gates, recipe, sweep, evaluate, plots.
"""

import os

# OpenMP's idle threads otherwise spin, and on a machine that does anything else a small model then runs many times slower
# (380 instead of 1,600 tokens a second beside one busy process on two cores). Read by the library once, when torch loads it.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
