# What the rules share: which files a job needs, and which training or dataset a key belongs to.
from stablevsr.method.model_folder import PARTS, tcm_folder
from stablevsr.study.groups import groups, owner, plain, sampled_with, tables
from stablevsr.study.protocol import protocol_of
from stablevsr.training.tasks import TRAINING_KINDS, WEIGHTS

TRAININGS = study.trainings()
GROUPS = groups(study, sampled_with)
#: Trainings by the cached samples they learn from: one for each set of samples.
SAMPLED = {run.samples: run for run in TRAININGS.values() if run.samples}
#: A training that is shared by several processes is one job; accelerate finds its ranks in what torchrun sets.
LAUNCH = (
    f"torchrun --standalone --nproc_per_node {SPEC.training_processes} --no-python"
    if SPEC.training_processes > 1
    else ""
)


def fetched(names):
    """The files that show that downloads were verified; their age does not matter."""
    return [ancient(f"data/fetched/{name}") for name in names]


def weights(names):
    """As :func:`fetched` for weights; a study that can do without them goes on where they cannot be had."""
    return [f"data/fetched/optional/{name}" for name in names] if SPEC.weights == "skip" else fetched(names)


def source_of(spec):
    """What a dataset is prepared from: the files that show that its folder is complete, whose age does not matter, or
    the frames that a person put there."""
    if spec.validation:
        return source_of(spec.validation) + source_of(spec.model_copy(update={"validation": None}))
    if spec.make:
        return [ancient(f"{spec.root.parent}/CARD.md")]
    own = (
        []
        if spec.fetch or spec.layout != "plain"
        else stamp([*frames_of(spec.root / "gt"), *frames_of(spec.root / "lr")])
    )
    return fetched(spec.fetch) + own


def frames_of(folder):
    """The frames in a person's folder."""
    return sorted(path for path in folder.glob("*/*") if path.is_file())


def stamp(files):
    """An input that is another one when a person's files have changed: their sizes and times are in its name.

    As inputs themselves they would have to be newer than what was made of them, which files from an archive are not.
    """
    states = [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    return [code("files", digest(states))] if files else []


def training_set(key):
    """Name and entry of the training set with this key."""
    for name, spec in SPEC.training_datasets.items():
        if PATHS.training_data(spec).stem == f"train-{key}":
            return name, spec
    raise KeyError(key)


def trained(runs):
    """The files that show that trainings are finished and their weights are there."""
    return [PATHS.training(run) / name for run in runs for name in ("provenance.json", WEIGHTS[run.kind])]


def base_files(base):
    """What must be there before a base model can be loaded: the training of its UNet, a download, or its own files."""
    if base.training:
        return trained([base.training])
    own = [] if base.name == "tiny" else [file for part in PARTS for file in network_files(Path(base.name) / part)]
    return fetched(model_to_fetch(base.name)) + stamp(own)


def network_files(folder):
    """The files of a network that a person put there."""
    return sorted(folder.glob("*.json")) + sorted(folder.glob("*.safetensors"))


def inputs_of(run):
    """What a training needs besides cached samples."""
    return [
        *base_files(run.base),
        PATHS.training_data(run.dataset),
        *fetched(training_weights(run.settings)),
    ]


def networks_of(method):
    """What must be there before a method's networks can be loaded."""
    runs = [run for run in (method.training, method.decoder) if run]
    return [
        *(base_files(method.base) if method.base else []),
        *trained(runs),
        *fetched(flow_weights(method.guidance)),
        *weights(baseline_weights(method.kind)),
    ]


def external_files(dataset, method):
    """The external inputs of a method: the files of a TCM, or frames."""
    files = []
    if method.external_tcm:
        files += stamp(network_files(tcm_folder(method.external_tcm)))
    if method.frames:
        folder = method.frames_of(dataset)
        # below work/ an ablation's rules make them (ablations/README.md), elsewhere a person did
        files += [folder] if made_by_rules(folder) else stamp(frames_of(folder))
    return files


def upscale_options(form):
    """The options of `stablevsr upscale` that give a form's networks, guidance, sampling and seed."""
    if form.kind != "stablevsr":
        return ["--model", form.kind]
    sampling, guidance = form.sampling, form.guidance
    tcm = PATHS.training(form.training) if form.training else form.external_tcm
    if tcm is None:
        raise WorkflowError(f"{form.name} has no TCM that is trained here or lies in a folder: leave out what runs it")
    given = ["strategy", "steps", "precision"]
    if sampling.model_dump(exclude={*given}, exclude_defaults=True) or guidance.model_dump(
        exclude={"flow", "warp"}, exclude_defaults=True
    ):
        raise WorkflowError(
            f"{form.name} has settings that `stablevsr upscale` has no option for: leave out what runs it"
        )
    options = {name: getattr(sampling, name) for name in given} | {"flow": guidance.flow, "warp": guidance.warp}
    options |= {"model": PATHS.model(form.base), "tcm": tcm, "seed": form.run}
    return [text for name, value in options.items() for text in (f"--{name}", str(value))]


def unique(files):
    """The files, each once, in order."""
    return list(dict.fromkeys(files))


def names_of(group):
    """The names of a group's methods, with all names of those that have several."""
    return ", ".join(unique(name for digest in group.digests for name in study.names(digest)))


def shards_of(dataset, forms):
    """The score files of all shards of some methods' forms on a dataset, each once."""
    shards = range(SPEC.datasets[dataset].shards)
    files = [PATHS.scores(dataset, form.digest, form.run, shard) for form in forms for shard in shards]
    return unique(files)


def code(what, key):
    """An input of rules whose outputs have fixed names: a file whose name changes with the code, or what else is in it."""
    return PATHS.code(what, key)


#: Labels, titles and claims are read from these when rendering; a change renders again and computes nothing else.
TEXTS = [
    *study.files,
    *(f"ablations/{name}.yaml" for name in study.ablations),
    # shown on the page where they are there
    *sorted(Path("results/published").glob("*.*")),
    *Path("docs").glob("deviations.md"),
]
REPORT_CODE = code(f"report-{STUDY}", report_code(map(Path, TEXTS)))
PROTOCOLS = {name: protocol_of(spec, SPEC.metrics).name for name, spec in SPEC.datasets.items()}
TABLES_CODE = code("tables", digest([fingerprint("stablevsr.study.result_tables"), PROTOCOLS]))
#: By data that is made here.
MADE_CODE = {name: code(name, fingerprint(f"stablevsr.data.{name}")) for name in ("mini", "domains")}
SCORES = [file for name in SPEC.datasets for file in shards_of(name, study.forms_on(name))]
