# The rule behind temporal_filter.yaml: the single-frame frames of a dataset, averaged over time. An ablation's rules see
# what the Snakefile knows: `study`, STUDY, SPEC, PATHS. Frames below work/ that a variant names must come from a rule.
SINGLE_FRAME = study.methods["temporal_filter.single_frame"]


rule temporal_filter:
    input:
        frames=lambda w: [
            PATHS.manifest(w.dataset, SINGLE_FRAME.on(w.dataset).digest, SINGLE_FRAME.seeds[0], shard)
            for shard in range(SPEC.datasets[w.dataset].shards)
        ],
        code="ablations/temporal_filter.py",
    output:
        directory(f"work/given/{STUDY}/temporal_filter/{{dataset}}"),
    log:
        f"work/logs/temporal_filter_{STUDY}_{{dataset}}.log",
    localrule: True
    params:
        folder=lambda w: PATHS.frames(w.dataset, SINGLE_FRAME.on(w.dataset).digest, SINGLE_FRAME.seeds[0]),
    message:
        "averaging the single-frame frames of {wildcards.dataset} over time"
    shell:
        "python {input.code} {params.folder} {output} > {log} 2>&1"
