# What the rules ask: which files a job needs, and what stands behind a key.

TRAININGS = study.trainings()
POOLS = {str(pool_file(run, PATHS.pools)): digest for digest, run in TRAININGS.items() if run.settings.pool}
FINETUNINGS = study.finetunings()
DISTILLATIONS = study.decoders()
#: A training that is shared by several processes is one job; accelerate finds its ranks in what torchrun sets.
LAUNCH = (
    f"torchrun --standalone --nproc_per_node {SPEC.training_processes} --no-python"
    if SPEC.training_processes > 1
    else ""
)


def fetched(names):
    """The files that say that downloads are there and verified."""
    return [f"data/fetched/{name}" for name in names]


def source_of(spec):
    """The files that say that a dataset's own folder is whole."""
    return [f"{spec.root.parent}/CARD.md"] if spec.make == "mini" else fetched(spec.fetch)


def training_set(key):
    """Name and entry of the training set behind a key."""
    for name, spec in SPEC.training_datasets.items():
        if PATHS.training_data(spec).stem == f"train-{key}":
            return name, spec
    raise KeyError(key)


def base_files(base):
    """What must be there before a base model can be loaded: a fine-tuning's end, the embedded weights, a download."""
    if base.finetuning:
        return [PATHS.finetuned(base.finetuning.digest) / "provenance.json"]
    return embedded_weights() if base.name == "tiny" else fetched(model_download(base.name))


def pool_of(key):
    """The training that a pool is made for."""
    return TRAININGS[POOLS[f"work/pools/{key}/pool.safetensors"]]


def trained_for(digest):
    """The methods that use a training, for messages."""
    return ", ".join(study.trained_for(digest))


def checkpoint_of(digest):
    """The trained TCM that a method needs, if any."""
    method = study.find(digest)
    return [PATHS.checkpoint(method.training.digest) / "config.json"] if method.training else []


def decoder_of(digest):
    """The small decoder that a method's guidance needs, if any."""
    method = study.find(digest)
    return [PATHS.decoder(method.decoder.digest) / "provenance.json"] if method.decoder else []


def given_files(dataset, digest):
    """What a method brings instead of computing it: a TCM's files, or its folders of frames."""
    method = study.find(digest)
    files = []
    if method.checkpoint and method.checkpoint != MODELS_OWN:
        files += sorted(method.checkpoint.glob("*.json")) + sorted(method.checkpoint.glob("*.safetensors"))
    if method.frames:
        folder = method.frames_of(dataset)
        # Below work/ an ablation's own rules make them (ablations/README.md). Elsewhere a person did, and every frame
        # is an input, for one that is overwritten leaves its folder's time as it was
        files += [folder] if made_by_rules(folder) else sorted(p for p in folder.glob("*/*") if p.is_file())
    return files


def shards_of(dataset, digest):
    """All score files of a method on a dataset, every seed and shard."""
    return [
        PATHS.scores(dataset, digest, seed, shard)
        for seed in study.seeds(digest, dataset)
        for shard in range(SPEC.datasets[dataset].shards)
    ]
