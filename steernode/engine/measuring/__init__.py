"""Measuring: likelihoods from shared work, scores of replies, intervals, and thresholds."""
