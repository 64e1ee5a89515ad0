# Frames of every method, in shards of sequences. One job loads the model once; an interrupted shard resumes.


rule infer_shard:
    input:
        lambda w: networks_of(study.find(w.digest)),
        data=PATHS.pattern("dataset"),
        external=lambda w: external_files(w.dataset, study.find(w.digest)),
    output:
        PATHS.pattern("manifest"),
    log:
        "work/logs/infer_{dataset}-{key}_{digest}_seed{seed}_shard{shard}of{shards}.log",
    benchmark:
        "work/benchmarks/infer_{dataset}-{key}_{digest}_seed{seed}_shard{shard}of{shards}.tsv"
    threads: SPEC.threads
    resources:
        gpu=GPU,
    params:
        study=STUDY,
        methods=lambda w: ", ".join(study.names(w.digest)),
    message:
        "frames of {params.methods} on {wildcards.dataset}, seed {wildcards.seed}, shard {wildcards.shard}"
    shell:
        "stablevsr gpu-lock {resources.gpu} stablevsr infer --study {params.study:q} --method {wildcards.digest:q}"
        " --dataset {wildcards.dataset:q} --seed {wildcards.seed:q} --shard {wildcards.shard}/{wildcards.shards}"
        " 2>&1 | tee {log:q}"
