# Tables, figures and the page, from the per-frame scores and the frames; nothing is typed by hand.

TABLES = [PATHS.table(dataset, m.name) for m in study.methods.values() for dataset in m.datasets]

#: The methods of each table, and the data sets that it shows them on.
TABLE_PARTS = {"table1": (study.table1(), study.table1_datasets())} | {
    name: (list(study.ablation_methods(name).values()), study.ablation_datasets(name)) for name in study.ablations
}

# One table alone, with what it needs and no more: `snakemake table1` or `snakemake table_sampling`. These rules have no
# outputs, because the rule `tables` has them.
for table_name, (methods, datasets) in TABLE_PARTS.items():

    rule:
        name:
            table_name if table_name == "table1" else f"table_{table_name}"
        input:
            unique(PATHS.table(dataset, m.name) for m in methods for dataset in datasets if dataset in m.datasets),
        log:
            f"work/logs/table_{STUDY}_{table_name}.log",
        localrule: True
        params:
            study=STUDY,
            table=table_name,
        message:
            "the table {params.table} of {STUDY}: results/{STUDY}/tables/{params.table}.md"
        shell:
            "stablevsr report --study {params.study:q} --table {params.table:q} > {log:q} 2>&1"


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
