# Datasets: made here (mini, domains), fetched by name, then linked into the plain layout gt/sequence/frame, lr/sequence/frame.


rule data_mini:
    input:
        fetched(["big_buck_bunny"]),
        MADE_CODE["mini"],
    output:
        "data/mini/CARD.md",
    log:
        "work/logs/data_mini.log",
    benchmark:
        "work/benchmarks/data_mini.tsv"
    localrule: True
    message:
        "making the mini data"
    shell:
        "stablevsr data mini --out data/mini > {log:q} 2>&1"


rule data_domains:
    input:
        MADE_CODE["domains"],
    output:
        "data/domains/CARD.md",
    log:
        "work/logs/data_domains.log",
    localrule: True
    message:
        "making the test set of other domains"
    shell:
        "stablevsr data domains --out data/domains > {log:q} 2>&1"


rule data_fetch:
    output:
        touch("data/fetched/{name}"),
    log:
        "work/logs/data_fetch_{name}.log",
    wildcard_constraints:
        name="[^/]+(/[^/]+@[0-9a-f]{40})?",  # of the registry, or a model of the hub at a commit
    retries: 3
    localrule: True
    message:
        "fetching {wildcards.name}"
    shell:
        "stablevsr fetch {wildcards.name:q} --data data 2>&1 | tee {log:q}"


# Weights that a study can do without. The file says whether they are there; a later `stablevsr fetch` renews it.
rule data_fetch_optional:
    output:
        "data/fetched/optional/{name}",
    log:
        "work/logs/data_fetch_optional_{name}.log",
    localrule: True
    message:
        "fetching {wildcards.name}"
    shell:
        "if stablevsr fetch {wildcards.name:q} --data data > {log:q} 2>&1;"
        " then echo fetched > {output:q}; else tail -n 1 {log:q} | tee {output:q}; fi"


rule data_prepare:
    input:
        lambda w: source_of(SPEC.datasets[w.dataset]),
    output:
        PATHS.pattern("dataset"),
    log:
        "work/logs/data_prepare_{dataset}-{key}.log",
    localrule: True
    params:
        study=STUDY,
    message:
        "linking the test set {wildcards.dataset}"
    shell:
        "stablevsr data prepare --study {params.study:q} --dataset {wildcards.dataset:q} > {log:q} 2>&1"


rule data_prepare_training:
    input:
        lambda w: source_of(training_set(w.key)[1]),
    output:
        PATHS.pattern("training_data"),
    log:
        "work/logs/data_prepare_training_{key}.log",
    localrule: True
    params:
        study=STUDY,
        name=lambda w: training_set(w.key)[0],
    message:
        "checking and hashing the training set {params.name}"
    shell:
        "stablevsr data prepare-training --study {params.study:q} --dataset {params.name:q} > {log:q} 2>&1"


# A stamp: another fingerprint of code, or other sizes and times of a person's files, is another file, and what depends on
# it is made again.
rule code:
    output:
        touch(PATHS.pattern("code")),
    wildcard_constraints:
        what="[A-Za-z0-9_-]+",
    message:
        "{wildcards.what}: {wildcards.key}"
