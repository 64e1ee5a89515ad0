"""Metrics: their registry, the evaluation of frames, and statistics of the scores."""
