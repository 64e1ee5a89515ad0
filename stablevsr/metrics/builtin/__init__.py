"""The metrics of this package, one file each; metrics that share a network share a file.

A new file is imported by :mod:`stablevsr.metrics.registry`, which makes it known to everything else.
"""
