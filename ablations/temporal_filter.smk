# The rule of temporal_filter.yaml: averages the single-frame frames of a dataset along the motion. An ablation's rules can use
# the Snakefile's `study`, STUDY, SPEC and PATHS. Frames that a variant names below work/external/ must come from a rule.
SINGLE_FRAME = study.methods["temporal_filter.single_frame"]
FILTER = "ablations/temporal_filter.py"


rule temporal_filter:
    input:
        lambda w: [
            PATHS.manifest(w.dataset, SINGLE_FRAME.on(w.dataset).digest, 0, shard)
            for shard in range(SPEC.datasets[w.dataset].shards)
        ],
        code("temporal_filter", script_code(Path(FILTER))),
    output:
        directory(PATHS.external() / "temporal_filter" / "{dataset}"),
    log:
        f"work/logs/temporal_filter_{STUDY}_{{dataset}}.log",
    priority: 10  # as other frames: scores of what comes last would otherwise be made alone
    localrule: True
    params:
        script=FILTER,
        folder=lambda w: PATHS.frames(w.dataset, SINGLE_FRAME.on(w.dataset).digest, 0),
        lr=lambda w: PATHS.dataset(w.dataset) / "lr",
    message:
        "averaging the single-frame frames of {wildcards.dataset} along the motion"
    shell:
        "python {params.script:q} {params.folder:q} {params.lr:q} {output:q} > {log:q} 2>&1"
