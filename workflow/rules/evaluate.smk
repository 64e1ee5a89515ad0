# Per-frame scores of every shard, then one table a method under its readable name.


rule evaluate_shard:
    input:
        data="work/datasets/{dataset}-{key}/manifest.json",
        frames="work/manifests/{dataset}-{key}/{digest}/seed{seed}/shard{shard}of{shards}.json",
        weights=fetched(metric_weights(SPEC)),
        code=sources("stablevsr.metrics.evaluate"),
    output:
        scores=f"work/scores/{PATHS.metrics_key}/{{dataset}}-{{key}}/{{digest}}/seed{{seed}}/shard{{shard}}of{{shards}}.csv",
        notes=f"work/scores/{PATHS.metrics_key}/{{dataset}}-{{key}}/{{digest}}/seed{{seed}}/shard{{shard}}of{{shards}}.csv.json",
    log:
        "work/logs/evaluate_{dataset}-{key}_{digest}_seed{seed}_shard{shard}of{shards}.log",
    threads: SPEC.threads
    resources:
        gpu=GPU,
    params:
        gt=lambda w, input: Path(input.data).parent / "gt",
        sr=lambda w: f"work/frames/{w.dataset}-{w.key}/{w.digest}/seed{w.seed}",
        methods=lambda w: ", ".join(study.names(w.digest)),
        metrics=",".join(SPEC.metrics),
        weights=SPEC.weights,
        device="cpu" if SPEC.device == "cpu" else "auto",
    message:
        "scores of {params.methods} on {wildcards.dataset}, seed {wildcards.seed}, shard {wildcards.shard}"
    shell:
        "stablevsr gpu-lock {resources.gpu} stablevsr evaluate --gt {params.gt} --sr {params.sr} --metrics {params.metrics} --weights {params.weights}"
        " --shard {wildcards.shard}/{wildcards.shards} --cache work/cache --device {params.device}"
        " --out {output.scores} > {log} 2>&1"


rule metrics:
    input:
        lambda w: shards_of(w.dataset, study.find(w.method).on(w.dataset).digest),
        code=sources("stablevsr.study.result_tables"),
    output:
        table=f"results/{STUDY}/metrics/{{dataset}}/{{method}}.csv",
        notes=f"results/{STUDY}/metrics/{{dataset}}/{{method}}.csv.json",
    log:
        f"work/logs/metrics_{STUDY}_{{dataset}}_{{method}}.log",
    wildcard_constraints:
        method="|".join(name.replace(".", r"\.") for name in study.methods),
    params:
        study=STUDY,
    message:
        "table of scores: {wildcards.method} on {wildcards.dataset}"
    shell:
        "stablevsr report --study {params.study} --part scores --dataset {wildcards.dataset} --method {wildcards.method}"
        " > {log} 2>&1"
