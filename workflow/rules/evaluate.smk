# Per-frame scores of every shard, then one table a method under its readable name.


rule evaluate_shard:
    input:
        data=PATHS.pattern("dataset"),
        frames=PATHS.pattern("manifest"),
        weights=weights(metric_weights(SPEC)),
    output:
        scores=PATHS.pattern("scores"),
        notes=f"{PATHS.pattern('scores')}.json",
    log:
        "work/logs/evaluate_{metrics}_{dataset}-{key}_{digest}_seed{seed}_shard{shard}of{shards}.log",
    threads: SPEC.threads
    resources:
        gpu=GPU,
    params:
        gt=lambda w, input: Path(input.data).parent / "gt",
        sr=lambda w: PATHS.pattern("frames").format(**w),
        methods=lambda w: ", ".join(study.names(w.digest)),
        metrics=",".join(SPEC.metrics),
        weights=SPEC.weights,
        device="cpu" if SPEC.device == "cpu" else "auto",
    message:
        "scores of {params.methods} on {wildcards.dataset}, seed {wildcards.seed}, shard {wildcards.shard}"
    shell:
        "stablevsr gpu-lock {resources.gpu} stablevsr evaluate --gt {params.gt:q} --sr {params.sr:q}"
        " --metrics {params.metrics:q} --weights {params.weights:q} --shard {wildcards.shard}/{wildcards.shards}"
        " --cache work/cache --device {params.device:q} --out {output.scores:q} > {log:q} 2>&1"


rule metrics:
    input:
        lambda w: shards_of(w.dataset, study.find(w.method).on(w.dataset).digest),
        TABLES_CODE,
    output:
        multiext(str(PATHS.table("{dataset}", "{method}")), "", ".json"),
    log:
        f"work/logs/metrics_{STUDY}_{{dataset}}_{{method}}.log",
    wildcard_constraints:
        method="|".join(name.replace(".", r"\.") for name in study.methods),
    params:
        study=STUDY,
    message:
        "table of scores: {wildcards.method} on {wildcards.dataset}"
    shell:
        "stablevsr report --study {params.study:q} --part scores --dataset {wildcards.dataset:q}"
        " --method {wildcards.method:q} > {log:q} 2>&1"
