"""The report of a study: tables, claims, figures, provenance, and one HTML page that shows them all.

Everything is rendered from what the study's jobs left on disk (per-frame scores, frames, manifests, training
histories); nothing is typed by hand and nothing here imports torch. Missing results become a sentence on the page.

What is read: :mod:`.scores` (all parts ask one ``ScoreBook``), :mod:`.clip_frames`, :mod:`.inference_cost`,
:mod:`.training_history`, :mod:`.published`. What is concluded: :mod:`.claims`. What is written, each by a ``render`` or
``write``: :mod:`.tables`, :mod:`.figures`, :mod:`.page`, :mod:`.provenance`.
"""
