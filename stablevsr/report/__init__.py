"""The report of a study: tables, claims, figures, provenance, and one HTML page that shows them all.

All of it is made from the files of the study's jobs (per-frame scores, frames, manifests, training histories), without
importing torch. The page lists results that are missing. The four parts that write files are :mod:`.tables`,
:mod:`.figures`, :mod:`.page` and :mod:`.provenance`; the other modules read results for them.
"""
