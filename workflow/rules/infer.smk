# Frames of every method, in shards of sequences. One job loads the model once; a shard resumes inside itself.


def checkpoint_of(digest):
    """The trained TCM that a method needs, if any."""
    method = study.find(digest)
    return [PATHS.checkpoint(method.training.digest) / "config.json"] if method.training else []


def given_files(dataset, digest):
    """What a method brings instead of computing it: a TCM's files, or its folders of frames."""
    method = study.find(digest)
    files = []
    if method.checkpoint and method.checkpoint != MODELS_OWN:
        files += sorted(method.checkpoint.glob("*.json")) + sorted(method.checkpoint.glob("*.safetensors"))
    if method.frames:
        folder = Path(str(method.frames).replace("{dataset}", dataset))
        # Below work/ a rule makes them (an ablation's own, see ablations/README.md), elsewhere a person did
        files += [folder] if folder.parts[0] == "work" else sorted(folder.glob("*"))
    return files


rule infer_shard:
    input:
        lambda w: base_files(study.find(w.digest).base) if study.find(w.digest).base else [],
        data="work/datasets/{dataset}-{key}/manifest.json",
        tcm=lambda w: checkpoint_of(w.digest),
        given=lambda w: given_files(w.dataset, w.digest),
        flow=lambda w: fetched(flow_weights(study.find(w.digest).guidance)),
        code=sources(FRAME_CODE),
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
        methods=lambda w: ", ".join(study.names(w.digest)),
    message:
        "frames of {params.methods} on {wildcards.dataset}, seed {wildcards.seed}, shard {wildcards.shard}"
    shell:
        "stablevsr cards {resources.gpu} stablevsr infer --study {STUDY} --method {wildcards.digest} --dataset {wildcards.dataset}"
        " --seed {wildcards.seed} --shard {wildcards.shard}/{wildcards.shards} 2>&1 | tee {log}"
