"""The report of a study: tables, claims, figures, provenance and one page that shows them all.

Everything is rendered from the per-frame scores, frames and manifests that the study's jobs left; nothing is typed by
hand and nothing here imports torch. What is missing is listed, never guessed.
"""
