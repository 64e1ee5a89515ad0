# TCM variants. Variants that resolve to the same training are one job; resume states live in work/states, undeclared.


rule train_unet:
    input:
        lambda w: base_files(Base(FINETUNINGS[w.finetuning].start)),
        data=lambda w: PATHS.training_data(FINETUNINGS[w.finetuning].dataset),
        code=sources("stablevsr.study.training"),
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
    params:
        study=STUDY,
        launch=LAUNCH,
    message:
        "fine-tuning the UNet of {wildcards.finetuning}"
    shell:
        "stablevsr gpu-lock {resources.gpu} {params.launch} stablevsr train unet --study {params.study}"
        " --finetuned {wildcards.finetuning} 2>&1 | tee {log}"


rule train_pool:
    input:
        lambda w: base_files(pool_of(w.key).base),
        data=lambda w: PATHS.training_data(pool_of(w.key).dataset),
        flow=lambda w: fetched(flow_weights(pool_of(w.key).guidance)),
        code=sources("stablevsr.study.training"),
    output:
        "work/pools/{key}/pool.safetensors",
    log:
        "work/logs/train_pool_{key}.log",
    priority: 10  # what waits for a TCM is the longest chain
    threads: SPEC.threads
    resources:
        gpu=GPU,
    params:
        study=STUDY,
        training=lambda w: pool_of(w.key).digest,
        methods=lambda w: trained_for(pool_of(w.key).digest),
    message:
        "freezing training samples for {params.methods}"
    shell:
        "stablevsr gpu-lock {resources.gpu} stablevsr train pool --study {params.study} --training {params.training} 2>&1 | tee {log}"


rule train_tcm:
    input:
        lambda w: base_files(TRAININGS[w.training].base),
        data=lambda w: PATHS.training_data(TRAININGS[w.training].dataset),
        flow=lambda w: fetched(flow_weights(TRAININGS[w.training].guidance)),
        pool=lambda w: ([pool_file(TRAININGS[w.training], PATHS.pools)] if TRAININGS[w.training].settings.pool else []),
        code=sources("stablevsr.study.training"),
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
        study=STUDY,
        launch=LAUNCH,
        methods=lambda w: trained_for(w.training),
    message:
        "training the TCM of {params.methods}"
    shell:
        "stablevsr gpu-lock {resources.gpu} {params.launch} stablevsr train tcm --study {params.study}"
        " --training {wildcards.training} 2>&1 | tee {log}"


rule train_decoder:
    input:
        lambda w: base_files(DISTILLATIONS[w.distillation].base),
        data=lambda w: PATHS.training_data(DISTILLATIONS[w.distillation].dataset),
        code=sources("stablevsr.study.training"),
    output:
        multiext(
            "work/decoders/{distillation}/",
            "config.json",
            "diffusion_pytorch_model.safetensors",
        ),
        settings="work/decoders/{distillation}/settings.json",
        history="work/decoders/{distillation}/history.csv",
        provenance="work/decoders/{distillation}/provenance.json",
    log:
        "work/logs/train_decoder_{distillation}.log",
    benchmark:
        "work/benchmarks/train_decoder_{distillation}.tsv"
    threads: SPEC.threads * SPEC.training_processes
    resources:
        gpu=GPU * SPEC.training_processes,
    params:
        study=STUDY,
        launch=LAUNCH,
    message:
        "distilling the small decoder {wildcards.distillation}"
    shell:
        "stablevsr gpu-lock {resources.gpu} {params.launch} stablevsr train decoder --study {params.study}"
        " --decoder {wildcards.distillation} 2>&1 | tee {log}"
