# The rules of pruning.yaml: the networks of the study's method, pruned and trained again, and the frames that they make.
PRUNING_SCRIPT = "ablations/pruning.py"
PRUNED = PATHS.external() / "pruning"
PRUNED_RUN = study.methods["stablevsr"].training
if PRUNED_RUN is None:
    raise WorkflowError("ablations/pruning.yaml prunes a TCM that the study trains, and this study trains none")


rule pruned_networks:
    input:
        inputs_of(PRUNED_RUN),
        code("pruned_networks", digest([script_code(Path(PRUNING_SCRIPT)), PRUNED_RUN.digest])),
    output:
        directory(PRUNED / "networks" / "{percent}"),
    log:
        f"work/logs/pruned_networks_{STUDY}_{{percent}}.log",
    wildcard_constraints:
        percent="[0-9]+",
    priority: 20  # as other trainings
    threads: SPEC.threads
    resources:
        gpu=GPU,
    params:
        script=PRUNING_SCRIPT,
        study=STUDY,
    message:
        "training the UNet and the TCM without {wildcards.percent} % of their inner channels"
    shell:
        "stablevsr gpu-lock {resources.gpu} python {params.script:q} train {params.study:q} {wildcards.percent}"
        " {output:q} > {log:q} 2>&1"


rule pruned_frames:
    input:
        lambda w: PATHS.dataset(w.dataset) / "manifest.json",
        lambda w: code(
            "pruned_frames",
            digest([script_code(Path(PRUNING_SCRIPT)), study.methods["stablevsr"].on(w.dataset).digest]),
        ),
        networks=PRUNED / "networks" / "{percent}",
    output:
        frames=directory(PRUNED / "{dataset}" / "{percent}"),
        manifest=PRUNED / "{dataset}" / "{percent}.json",
    log:
        f"work/logs/pruned_frames_{STUDY}_{{dataset}}_{{percent}}.log",
    wildcard_constraints:
        percent="[0-9]+",
    threads: SPEC.threads
    resources:
        gpu=GPU,
    params:
        script=PRUNING_SCRIPT,
        study=STUDY,
    message:
        "frames of {wildcards.dataset} without {wildcards.percent} % of the inner channels"
    shell:
        "stablevsr gpu-lock {resources.gpu} python {params.script:q} sample {params.study:q} {wildcards.dataset:q}"
        " {input.networks:q} {output.frames:q} > {log:q} 2>&1"
