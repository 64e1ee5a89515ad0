# Frames of every method, in shards of sequences. One job loads the model once; a shard resumes inside itself.


rule infer_shard:
    input:
        lambda w: base_files(study.find(w.digest).base) if study.find(w.digest).base else [],
        data="work/datasets/{dataset}-{key}/manifest.json",
        tcm=lambda w: checkpoint_of(w.digest),
        decoder=lambda w: decoder_of(w.digest),
        given=lambda w: given_files(w.dataset, w.digest),
        flow=lambda w: fetched(flow_weights(study.find(w.digest).guidance)),
        code=sources("stablevsr.study.inference"),
    output:
        "work/manifests/{dataset}-{key}/{digest}/seed{seed}/shard{shard}of{shards}.json",
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
        "stablevsr gpu-lock {resources.gpu} stablevsr infer --study {params.study} --method {wildcards.digest} --dataset {wildcards.dataset}"
        " --seed {wildcards.seed} --shard {wildcards.shard}/{wildcards.shards} 2>&1 | tee {log}"
