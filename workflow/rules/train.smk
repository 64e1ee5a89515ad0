# TCM variants. Variants that resolve to the same training are one job; resume states live in work/states, undeclared.

TRAININGS = study.trainings()
POOLS = {str(pool_file(run, PATHS.pools)): digest for digest, run in TRAININGS.items() if run.settings.pool}
RESOLVED_MODEL = embedded_weights() if SPEC.model == "tiny" else fetched(model_download(SPEC.model))


def trained_for(digest):
    """The methods that use a training, for messages."""
    return ", ".join(m.name for m in study.methods.values() if m.training and m.training.digest == digest)


rule train_pool:
    input:
        RESOLVED_MODEL,
        data=lambda w: PATHS.training_data(TRAININGS[POOLS[f"work/pools/{w.key}/pool.safetensors"]].dataset),
        flow=lambda w: fetched(flow_weights(TRAININGS[POOLS[f"work/pools/{w.key}/pool.safetensors"]].guidance)),
        code=sources(TRAINING_CODE),
    output:
        "work/pools/{key}/pool.safetensors",
    log:
        "work/logs/train_pool_{key}.log",
    priority: 10  # what waits for a TCM is the longest chain
    threads: SPEC.threads
    resources:
        gpu=GPU,
    params:
        training=lambda w: POOLS[f"work/pools/{w.key}/pool.safetensors"],
        methods=lambda w: trained_for(POOLS[f"work/pools/{w.key}/pool.safetensors"]),
    message:
        "freezing training samples for {params.methods}"
    shell:
        "stablevsr train pool --study {STUDY} --training {params.training} 2>&1 | tee {log}"


rule train_tcm:
    input:
        RESOLVED_MODEL,
        data=lambda w: PATHS.training_data(TRAININGS[w.training].dataset),
        flow=lambda w: fetched(flow_weights(TRAININGS[w.training].guidance)),
        pool=lambda w: ([pool_file(TRAININGS[w.training], PATHS.pools)] if TRAININGS[w.training].settings.pool else []),
        code=sources(TRAINING_CODE),
    output:
        multiext(
            "work/checkpoints/{training}/",
            "config.json",
            "diffusion_pytorch_model.safetensors",
        ),
        settings="work/checkpoints/{training}/settings.json",
        history="work/checkpoints/{training}/history.csv",
        provenance="work/checkpoints/{training}/provenance.json",
    log:
        "work/logs/train_tcm_{training}.log",
    benchmark:
        "work/benchmarks/train_tcm_{training}.tsv"
    priority: 10  # what waits for a TCM is the longest chain
    threads: SPEC.threads
    resources:
        gpu=GPU,
    params:
        methods=lambda w: trained_for(w.training),
    message:
        "training the TCM of {params.methods}"
    shell:
        "stablevsr train tcm --study {STUDY} --training {wildcards.training} 2>&1 | tee {log}"
