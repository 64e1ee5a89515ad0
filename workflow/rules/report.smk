# Tables, figures and the page, from the per-frame scores and the frames; nothing is typed by hand.

TABLES = [PATHS.table(dataset, m.name) for m in study.methods.values() for dataset in m.datasets]


rule tables:
    input:
        TABLES,
        REPORT_CODE,
    output:
        [
            PATHS.results / "tables" / f"{name}.{kind}"
            for name in ("table1", *study.ablations)
            for kind in ("csv", "md", "tex")
        ],
        PATHS.results / "provenance.json",
    log:
        f"work/logs/tables_{STUDY}.log",
    benchmark:
        f"work/benchmarks/tables_{STUDY}.tsv"
    params:
        study=STUDY,
    message:
        "tables and claims of {STUDY}"
    shell:
        "stablevsr report --study {params.study:q} --part tables > {log:q} 2>&1"


rule figures:
    input:
        TABLES,
        [PATHS.training(run) / "provenance.json" for run in TRAININGS.values()],
        REPORT_CODE,
    output:
        directory(PATHS.results / "figures"),
    log:
        f"work/logs/figures_{STUDY}.log",
    benchmark:
        f"work/benchmarks/figures_{STUDY}.tsv"
    localrule: True
    params:
        study=STUDY,
    message:
        "figures of {STUDY}"
    shell:
        "stablevsr report --study {params.study:q} --part figures > {log:q} 2>&1"


rule page:
    input:
        rules.tables.output,
        rules.figures.output,
    output:
        report(
            PATHS.results / "report.html",
            category="Study",
            caption="../report/page.rst",
        ),
    log:
        f"work/logs/page_{STUDY}.log",
    benchmark:
        f"work/benchmarks/page_{STUDY}.tsv"
    localrule: True
    params:
        study=STUDY,
    message:
        "the page of {STUDY}: results/{STUDY}/report.html"
    shell:
        "stablevsr report --study {params.study:q} --part page > {log:q} 2>&1"
