# Per-frame scores of the methods of a group, in shards: a job starts once for all of them, and what metrics compute of the
# ground truth is computed once. Then one table a method under its readable name.
for group in groups(study, owner):
    scored = [
        PATHS.scores(dataset, form.digest, group.run, "{shard}")
        for dataset, forms in group.forms.items()
        for form in forms
    ]

    rule:
        name:
            f"evaluate_{group.name}"
        input:
            data=[PATHS.dataset(dataset) / "manifest.json" for dataset in group.forms],
            frames=[
                PATHS.manifest(dataset, form.digest, group.run, "{shard}")
                for dataset, forms in group.forms.items()
                for form in forms
            ],
            weights=weights(metric_weights(SPEC)),
        output:
            # kept, not deleted before the job, which leaves those alone whose frames did not change
            scores=[update(file) for file in scored],
            notes=[update(f"{file}.json") for file in scored],
        log:
            f"work/logs/evaluate_{STUDY}_{group.name}_shard{{shard}}of{group.shards}.log",
        benchmark:
            f"work/benchmarks/evaluate_{STUDY}_{group.name}_shard{{shard}}of{group.shards}.tsv"
        priority: min(group.size, 9)  # large ones first, so that all cores end at about the same time
        threads: SPEC.threads
        resources:
            gpu=GPU,
        params:
            study=STUDY,
            methods=[f"--method={digest}" for digest in group.digests],
            datasets=[f"--dataset={dataset}" for dataset in group.forms],
            run=group.run,
            shards=group.shards,
            names=names_of(group),
        message:
            "scores of {params.names}, run {params.run}, shard {wildcards.shard}"
        shell:
            "stablevsr gpu-lock {resources.gpu} stablevsr score --study {params.study:q} {params.methods:q}"
            " {params.datasets:q} --seed {params.run} --shard {wildcards.shard}/{params.shards} > {log:q} 2>&1"


for number, ((dataset, whose), methods) in enumerate(tables(study).items()):

    rule:
        name:  # with its number: other signs than letters and digits are all _
            f"metrics_{number}_{plain(dataset)}_{plain(whose)}"
        input:
            shards_of(dataset, [form for method in methods for form in method.runs(dataset)]),
            TABLES_CODE,
        output:
            [f"{PATHS.table(dataset, method.name)}{kind}" for method in methods for kind in ("", ".json")],
        log:
            f"work/logs/metrics_{STUDY}_{dataset}_{whose}.log",
        benchmark:
            f"work/benchmarks/metrics_{STUDY}_{dataset}_{whose}.tsv"
        localrule: True
        params:
            study=STUDY,
            dataset=dataset,
            methods=[f"--method={method.name}" for method in methods],
            names=", ".join(method.name for method in methods),
        message:
            "tables of scores on {params.dataset}: {params.names}"
        shell:
            "stablevsr report --study {params.study:q} --part scores --dataset {params.dataset:q} {params.methods:q}"
            " > {log:q} 2>&1"
