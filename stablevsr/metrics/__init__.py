"""Metrics of the study: what each one means and needs, how it is computed, and statistics of the scores.

Importing this package, its registry or a metric's file imports neither torch nor numpy, so that plans, command-line
help and workflow parsing stay fast; the modules that compute are imported by those who compute.
"""
