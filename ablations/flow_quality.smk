# The rule of flow_quality.yaml: the study's method with the exact flow of the synthetic camera.
EXACT_SCRIPT = "ablations/flow_quality.py"
EXACT_METHOD = study.methods["stablevsr"].on("domains")


rule exact_flow:
    input:
        networks_of(EXACT_METHOD),
        PATHS.dataset("domains") / "manifest.json",
        code("exact_flow", digest([script_code(Path(EXACT_SCRIPT)), EXACT_METHOD.digest])),
    output:
        directory(PATHS.external() / "flow_quality" / "domains"),
    log:
        f"work/logs/exact_flow_{STUDY}.log",
    threads: SPEC.threads
    resources:
        gpu=GPU,
    params:
        script=EXACT_SCRIPT,
        study=STUDY,
    message:
        "frames of domains with the exact flow"
    shell:
        "stablevsr gpu-lock {resources.gpu} python {params.script:q} {params.study:q} {output:q} > {log:q} 2>&1"
