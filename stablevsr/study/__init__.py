"""Studies and ablations: their files (:mod:`.files`), what they resolve to (:mod:`.resolve`), where things lie (:mod:`.paths`).

Nothing here imports torch: Snakemake reads a study at every start.
"""
