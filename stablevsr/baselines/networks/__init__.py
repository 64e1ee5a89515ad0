"""The networks of baselines that run on torch."""
