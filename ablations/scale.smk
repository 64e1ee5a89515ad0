# The rules of scale.yaml: LR frames at another scale, and what a method of the study makes of them.
SCALE_SCRIPT = "ablations/scale.py"
SCALED = PATHS.external() / "scale" / "{dataset}" / "{scale}"


def scaled_form(w):
    """A method of the study as it runs on a data set in run 0."""
    return study.methods[w.method].on(w.dataset)


rule scale_low_resolution:
    input:
        lambda w: PATHS.dataset(w.dataset) / "manifest.json",
        code("scale_low_resolution", script_code(Path(SCALE_SCRIPT))),
    output:
        directory(SCALED / "lr"),
    log:
        f"work/logs/scale_{STUDY}_{{dataset}}_x{{scale}}.log",
    wildcard_constraints:
        scale="[0-9.]+",
    localrule: True
    params:
        script=SCALE_SCRIPT,
        gt=lambda w: PATHS.dataset(w.dataset) / "gt",
    message:
        "frames of {wildcards.dataset} made small for x{wildcards.scale}"
    shell:
        "python {params.script:q} {params.gt:q} {output:q} {wildcards.scale} > {log:q} 2>&1"


rule scale:
    input:
        lambda w: networks_of(scaled_form(w)),
        lambda w: code("scale", digest([fingerprint("stablevsr.upscale.run"), scaled_form(w).digest])),
        lr=SCALED / "lr",
    output:
        directory(SCALED / "{method}"),
    log:
        f"work/logs/scale_{STUDY}_{{dataset}}_x{{scale}}_{{method}}.log",
    wildcard_constraints:
        scale="[0-9.]+",
        method="|".join(["stablevsr", *SPEC.methods]),
    threads: SPEC.threads
    resources:
        gpu=GPU,
    params:
        options=lambda w: upscale_options(scaled_form(w)),
        device=SPEC.device,
    message:
        "x{wildcards.scale} of {wildcards.dataset} by {wildcards.method}"
    shell:
        "stablevsr gpu-lock {resources.gpu} stablevsr upscale {input.lr:q} {output:q} --scale {wildcards.scale}"
        " {params.options:q} --device {params.device:q} > {log:q} 2>&1"


# Scale consistency: the clip at x8 from LR/2 against the clip at x4 from LR, which has the same size. It compares two
# results, so it is no row of the ablation's table: `snakemake scale_consistency --config study=beyond`.
def scaled_frames(scale):
    """The frames of a method at a scale."""
    return lambda w: str(SCALED / w.method).format(dataset=w.dataset, scale=scale)


rule compare_scales:
    input:
        x4=scaled_frames(4),
        x8=scaled_frames(8),
        weights=weights(metric_weights(SPEC)),
        code=code("compare_scales", fingerprint("stablevsr.metrics.evaluate")),
    output:
        PATHS.results / "scale_consistency" / "{dataset}" / "{method}.csv",
    log:
        f"work/logs/compare_scales_{STUDY}_{{dataset}}_{{method}}.log",
    wildcard_constraints:
        method="|".join(["stablevsr", *SPEC.methods]),
    threads: SPEC.threads
    resources:
        gpu=GPU,
    params:
        missing=SPEC.weights,
        device=SPEC.device,
    message:
        "x8 against x4 of {wildcards.dataset} by {wildcards.method}"
    shell:
        "stablevsr gpu-lock {resources.gpu} stablevsr evaluate --gt {input.x4:q} --sr {input.x8:q} --out {output:q}"
        " --metrics lpips,dists,psnr,sharpness --weights {params.missing:q} --device {params.device:q} > {log:q} 2>&1"


rule scale_consistency:
    input:
        expand(
            rules.compare_scales.output,
            dataset=study.ablations["scale"].datasets,
            method=["bicubic", "basicvsr", "stablevsr"],
        ),
