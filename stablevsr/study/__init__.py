"""Studies and ablations: the files (:mod:`.files`), what they mean (:mod:`.resolve`), where files are (:mod:`.paths`).

These import no torch, because Snakemake reads a study at every start.
"""
