"""Studies and ablations: the files (:mod:`.files`), what they mean (:mod:`.resolve`), where files are (:mod:`.paths`).

Nothing here imports torch: Snakemake reads a study at every start.
"""
