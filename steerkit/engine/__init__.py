"""The torch side of steerkit: load a base model, capture activations, make directions, steer, sweep, measure.

The data flows through the files in this order: models, encoding, sites, capture, directions, positions, operators, steer,
generate, metrics, rubric, sweep, evaluate, plots.
"""
