"""The metrics of this package, one file each, or one for metrics that share a network.

:mod:`stablevsr.metrics.registry` imports each file by name, so that fingerprints of the evaluation contain them.
"""
