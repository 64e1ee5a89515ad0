# The rule of zero_shot.yaml: the study's method with its TCM adapted to every clip.
def adapted_form(w):
    """The study's method as it runs on a data set in run 0."""
    return study.methods["stablevsr"].on(w.dataset)


rule zero_shot:
    input:
        lambda w: networks_of(adapted_form(w)),
        lambda w: PATHS.dataset(w.dataset) / "manifest.json",
        lambda w: code("zero_shot", digest([fingerprint("stablevsr.upscale.run"), adapted_form(w).digest])),
    output:
        directory(PATHS.external() / "zero_shot" / "{dataset}" / "{steps}"),
    log:
        f"work/logs/zero_shot_{STUDY}_{{dataset}}_{{steps}}.log",
    benchmark:
        f"work/benchmarks/zero_shot_{STUDY}_{{dataset}}_{{steps}}.tsv"
    wildcard_constraints:
        steps="[0-9]+",
    threads: SPEC.threads
    resources:
        gpu=GPU,
    params:
        lr=lambda w: PATHS.dataset(w.dataset) / "lr",
        options=lambda w: upscale_options(adapted_form(w)),
        device=SPEC.device,
    message:
        "{wildcards.dataset} with the TCM adapted in {wildcards.steps} steps"
    shell:
        "stablevsr gpu-lock {resources.gpu} stablevsr upscale {params.lr:q} {output:q} --adapt {wildcards.steps}"
        " {params.options:q} --device {params.device:q} > {log:q} 2>&1"
