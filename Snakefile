# StableVSR, reproduced: choose the study, resolve it, include the rules.
#
#   snakemake --cores all --resources gpu=1                         the mini study (offline, two cores)
#   snakemake --cores all --resources gpu=1 --config study=paper    the paper's tables
#
# Rules are short shell commands of the `stablevsr` command line; what they compute is decided by the study
# (workflow/studies/) and the ablations (ablations/), both checked here before any job starts.
from snakemake.exceptions import WorkflowError
from snakemake.utils import min_version

from stablevsr.runtime.errors import UserError
from stablevsr.study.downloads import flow_weights, metric_weights, model_download
from stablevsr.study.external import check_given, made_by_rules
from stablevsr.study.paths import Paths, pool_file
from stablevsr.study.fingerprint import embedded_weights, sources
from stablevsr.study.methods import MODELS_OWN, Base
from stablevsr.study.resolve import load_study

min_version("9.0")

if set(config) - {"study"}:
    raise WorkflowError(f"--config knows one key, study: what is {', '.join(set(config) - {'study'})}?")
try:
    study = load_study(config.get("study", "mini"))
    check_given(study)
except UserError as error:
    raise WorkflowError(str(error)) from None
STUDY, SPEC, PATHS = study.name, study.spec, Paths(study)
GPU = 0 if SPEC.device == "cpu" else 1


wildcard_constraints:
    dataset="|".join(SPEC.datasets),
    key="[0-9a-f]{16}",
    digest="[0-9a-f]{16}",
    training="[0-9a-f]{16}",
    finetuning="[0-9a-f]{16}",
    distillation="[0-9a-f]{16}",
    seed="[0-9]+",
    shard="[0-9]+",
    shards="[0-9]+",


localrules:
    all,
    tables,
    metrics,


rule all:
    input:
        PATHS.results / "report.html",


include: "workflow/rules/common.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/infer.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/report.smk"


# An ablation may bring rules of its own: ablations/NAME.smk beside ablations/NAME.yaml.
for extra in sorted(Path("ablations").glob("*.smk")):
    if extra.stem in study.ablations:

        include: extra
