"""The torch side of steernode: load a base model, capture activations, make directions, steer, sweep, measure.

The data flows through six rooms in this order, and each imports only those before it: access, reading, applying, measuring,
searching, judging. What each computes, and where it is from, is in docs/engine.md.
"""

import os

# How long OpenMP's threads wait awake for the next operation, before they sleep. Its own choice, a millisecond and more, makes a small
# model many times slower beside one busy process; none at all makes waking up the most of every operation. This many turns, a quarter
# of a millisecond, last from one matrix product of a block to the next (docs/benchmarks.md). Read by the library once, when torch loads it.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("GOMP_SPINCOUNT", "20000")
