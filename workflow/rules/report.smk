# Tables, figures and the page, from the per-frame scores and the frames; nothing is typed by hand.

from stablevsr.report.text import TEMPLATES

TABLES = [PATHS.table(dataset, m.name) for m in study.methods.values() for dataset in m.datasets]
HISTORIES = [
    *(PATHS.checkpoint(training) / "history.csv" for training in study.trainings()),
    *(PATHS.finetuned(finetuning) / "history.csv" for finetuning in study.finetunings()),
    *(PATHS.decoder(distillation) / "history.csv" for distillation in study.decoders()),
]
#: Labels, titles and claims are read from these when rendering; a change re-renders and recomputes nothing else.
TEXTS = [
    f"workflow/studies/{STUDY}.yaml",
    *(f"ablations/{name}.yaml" for name in study.ablations),
    "results/published/table1.yaml",
    *map(str, sorted(TEMPLATES.iterdir())),
]


rule tables:
    input:
        TABLES,
        texts=TEXTS,
        code=sources("stablevsr.report.tables", "stablevsr.report.figures", "stablevsr.report.page"),
    output:
        [
            PATHS.results / "tables" / f"{name}.{kind}"
            for name in ("table1", *study.ablations)
            for kind in ("csv", "md", "tex")
        ],
        PATHS.results / "provenance.json",
    log:
        f"work/logs/tables_{STUDY}.log",
    params:
        study=STUDY,
    message:
        "tables and claims of {STUDY}"
    shell:
        "stablevsr report --study {params.study} --part tables > {log} 2>&1"


rule figures:
    input:
        TABLES,
        HISTORIES,
        texts=TEXTS,
        code=sources("stablevsr.report.tables", "stablevsr.report.figures", "stablevsr.report.page"),
    output:
        directory(PATHS.results / "figures"),
    log:
        f"work/logs/figures_{STUDY}.log",
    localrule: True
    params:
        study=STUDY,
    message:
        "figures of {STUDY}"
    shell:
        "stablevsr report --study {params.study} --part figures > {log} 2>&1"


rule page:
    input:
        rules.tables.output,
        rules.figures.output,
        Path("docs").glob("deviations.md"),  # shown on the page where it is there
    output:
        report(
            PATHS.results / "report.html",
            category="Study",
            caption="../report/page.rst",
        ),
    log:
        f"work/logs/page_{STUDY}.log",
    localrule: True
    params:
        study=STUDY,
    message:
        "the page of {STUDY}: results/{STUDY}/report.html"
    shell:
        "stablevsr report --study {params.study} --part page > {log} 2>&1"
