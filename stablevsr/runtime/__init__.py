"""Errors, locks, timing and background work: what any program of this kind needs."""
