"""Metrics of the study: what each one means (registry), what it needs (weights), and how it is computed.

Importing this package, its registry or its weights module imports neither torch nor numpy, so that plans, command-line
help and workflow parsing stay fast; the modules that compute are imported by those who compute.
"""
