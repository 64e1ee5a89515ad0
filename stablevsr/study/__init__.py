"""Studies and ablations: the files (:mod:`.files`), what they mean (:mod:`.resolve`), where things lie (:mod:`.paths`).

Nothing here imports torch: Snakemake reads a study at every start.
"""
