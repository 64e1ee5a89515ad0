# UNets, TCMs and small decoders: a rule for each kind, because the weights have other names. Variants that resolve to the
# same training are one job. Resume states are in work/states, which no rule declares.
for kind, network in TRAINING_KINDS.items():

    rule:
        name:
            f"train_{kind}"
        input:
            lambda w: inputs_of(TRAININGS[w.digest]),
            samples=lambda w: [PATHS.samples(TRAININGS[w.digest])] if TRAININGS[w.digest].samples else [],
        output:
            [
                PATHS.pattern("training").replace("{kind}", kind) + name
                for name in (WEIGHTS[kind], "settings.json", "history.csv", "provenance.json")
            ],
        log:
            f"work/logs/train_{kind}_{{digest}}.log",
        benchmark:
            f"work/benchmarks/train_{kind}_{{digest}}.tsv"
        priority: 20  # other jobs wait longest for trainings
        threads: SPEC.threads * SPEC.training_processes
        resources:
            gpu=GPU * SPEC.training_processes,
        params:
            study=STUDY,
            launch=LAUNCH,
            kind=kind,
            network=network,
            methods=lambda w: ", ".join(study.names(w.digest)),
        message:
            "training the {params.network} of {params.methods}"
        shell:
            "stablevsr gpu-lock {resources.gpu} {params.launch} stablevsr train {params.kind:q} --study {params.study:q}"
            " --name {wildcards.digest:q} 2>&1 | tee {log:q}"


rule cache_samples:
    input:
        lambda w: inputs_of(SAMPLED[w.key]),
    output:
        PATHS.pattern("samples"),
    log:
        "work/logs/cache_samples_{key}.log",
    benchmark:
        "work/benchmarks/cache_samples_{key}.tsv"
    priority: 20
    threads: SPEC.threads
    resources:
        gpu=GPU,
    params:
        study=STUDY,
        training=lambda w: SAMPLED[w.key].digest,
        methods=lambda w: ", ".join(study.names(SAMPLED[w.key].digest)),
    message:
        "computing the cached samples of {params.methods}"
    shell:
        "stablevsr gpu-lock {resources.gpu} stablevsr train samples --study {params.study:q} --name {params.training:q}"
        " 2>&1 | tee {log:q}"
