# Frames, in shards of sequences: a rule for each group of methods (stablevsr/study/groups.py). A job starts once for all
# methods of its group and loads networks that they share once. An interrupted job resumes.
for group in GROUPS:

    rule:
        name:
            f"infer_{group.name}"
        input:
            unique(file for forms in group.forms.values() for form in forms for file in networks_of(form)),
            data=[PATHS.dataset(dataset) / "manifest.json" for dataset in group.forms],
            external=unique(
                file
                for dataset, forms in group.forms.items()
                for form in forms
                for file in external_files(dataset, form)
            ),
        output:
            [
                PATHS.manifest(dataset, form.digest, group.run, "{shard}")
                for dataset, forms in group.forms.items()
                for form in forms
            ],
        log:
            f"work/logs/infer_{STUDY}_{group.name}_shard{{shard}}of{group.shards}.log",
        benchmark:
            f"work/benchmarks/infer_{STUDY}_{group.name}_shard{{shard}}of{group.shards}.tsv"
        # before scores, which are short and fill all cores at the end; large ones first; trainings have 20
        priority: 10 + min(group.size, 9)
        threads: group.resources.get("threads", SPEC.threads)
        resources:
            **{
                "gpu": GPU if group.on_gpu else 0,
                **{name: amount for name, amount in group.resources.items() if name != "threads"},
            },
        params:
            study=STUDY,
            methods=[f"--method={digest}" for digest in group.digests],
            datasets=[f"--dataset={dataset}" for dataset in group.forms],
            run=group.run,
            shards=group.shards,
            names=names_of(group),
        message:
            "frames of {params.names}, run {params.run}, shard {wildcards.shard}"
        shell:
            "stablevsr gpu-lock {resources.gpu} stablevsr infer --study {params.study:q} {params.methods:q}"
            " {params.datasets:q} --seed {params.run} --shard {wildcards.shard}/{params.shards} 2>&1 | tee {log:q}"
