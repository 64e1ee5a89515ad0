# TCM variants. Variants that resolve to the same training are one job; resume states live in work/states, undeclared.

TRAININGS = study.trainings()
POOLS = {str(pool_file(run, PATHS.pools)): digest for digest, run in TRAININGS.items() if run.settings.pool}
FINETUNINGS = study.finetunings()
#: A training that is shared by several processes is one job; accelerate finds its ranks in what torchrun sets.
LAUNCH = (
    f"torchrun --standalone --nproc_per_node {SPEC.training_processes} --no-python"
    if SPEC.training_processes > 1
    else ""
)


def base_files(base):
    """What must be there before a base model can be loaded: a fine-tuning's end, the embedded weights, a download."""
    if base.finetuning:
        return [PATHS.finetuned(base.finetuning.digest) / "provenance.json"]
    return embedded_weights() if base.name == "tiny" else fetched(model_download(base.name))


def pool_of(key):
    """The training that a pool is made for."""
    return TRAININGS[POOLS[f"work/pools/{key}/pool.safetensors"]]


def trained_for(digest):
    """The methods that use a training, for messages."""
    return ", ".join(study.trained_for(digest))


rule train_unet:
    input:
        lambda w: base_files(Base(FINETUNINGS[w.finetuning].start)),
        data=lambda w: PATHS.training_data(FINETUNINGS[w.finetuning].dataset),
        code=sources(TRAINING_CODE),
    output:
        multiext(
            "work/models/{finetuning}/unet/",
            "config.json",
            "diffusion_pytorch_model.safetensors",
        ),
        settings="work/models/{finetuning}/settings.json",
        history="work/models/{finetuning}/history.csv",
        provenance="work/models/{finetuning}/provenance.json",
    log:
        "work/logs/train_unet_{finetuning}.log",
    benchmark:
        "work/benchmarks/train_unet_{finetuning}.tsv"
    priority: 20  # its TCMs wait for it
    threads: SPEC.threads * SPEC.training_processes
    resources:
        gpu=GPU * SPEC.training_processes,
    message:
        "fine-tuning the UNet of {wildcards.finetuning}"
    shell:
        "stablevsr cards {resources.gpu} {LAUNCH} stablevsr train unet --study {STUDY}"
        " --finetuned {wildcards.finetuning} 2>&1 | tee {log}"


rule train_pool:
    input:
        lambda w: base_files(pool_of(w.key).base),
        data=lambda w: PATHS.training_data(pool_of(w.key).dataset),
        flow=lambda w: fetched(flow_weights(pool_of(w.key).guidance)),
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
        training=lambda w: pool_of(w.key).digest,
        methods=lambda w: trained_for(pool_of(w.key).digest),
    message:
        "freezing training samples for {params.methods}"
    shell:
        "stablevsr cards {resources.gpu} stablevsr train pool --study {STUDY} --training {params.training} 2>&1 | tee {log}"


rule train_tcm:
    input:
        lambda w: base_files(TRAININGS[w.training].base),
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
    threads: SPEC.threads * SPEC.training_processes
    resources:
        gpu=GPU * SPEC.training_processes,
    params:
        methods=lambda w: trained_for(w.training),
    message:
        "training the TCM of {params.methods}"
    shell:
        "stablevsr cards {resources.gpu} {LAUNCH} stablevsr train tcm --study {STUDY}"
        " --training {wildcards.training} 2>&1 | tee {log}"
