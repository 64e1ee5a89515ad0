# StableVSR, reproduced: choose the study, resolve it, include the rules.
#
#   snakemake --cores all --resources gpu=1                         the mini study (two cores)
#   snakemake --cores all --resources gpu=1 --config study=paper    the paper's tables
#
# Rules are short `stablevsr` commands. What they compute is set by the study (workflow/studies/) and the ablations
# (ablations/), which are checked here before any job starts. The path of a job's outputs holds a digest of everything
# that they depend on, code included (stablevsr/study/paths.py).
from snakemake.exceptions import WorkflowError
from snakemake.utils import min_version

from stablevsr.runtime.errors import UserError
from stablevsr.runtime.hashing import digest
from stablevsr.study.fingerprint import fingerprint, report_code, script_code
from stablevsr.study.paths import Paths
from stablevsr.study.requirements import check_external, check_packages, made_by_rules, metric_weights
from stablevsr.study.resolve import load_study
from stablevsr.study.weights import baseline_weights, flow_weights, model_to_fetch, training_weights

min_version("9.0")

if set(config) - {"study"}:
    raise WorkflowError(f"--config knows one key, study: what is {', '.join(set(config) - {'study'})}?")
if config.get("study", "mini") in (None, ""):
    raise WorkflowError("--config study= names no study: give --config study=mini, or leave it out")
try:
    study = load_study(str(config.get("study", "mini")))
    check_external(study)
except UserError as error:
    raise WorkflowError(str(error)) from None
STUDY, SPEC, PATHS = study.name, study.spec, Paths(study)
GPU = 0 if SPEC.device == "cpu" else 1


include: "workflow/rules/common.smk"


wildcard_constraints:
    dataset="|".join(SPEC.datasets),
    key="[0-9a-f]{16}",
    digest="[0-9a-f]{16}",
    shard="[0-9]+",


# Not when the files are read: a study can be planned (-n) without the packages of its metrics. Not in the first score
# job either, which starts after all downloads, trainings and sampling.
onstart:
    try:
        check_packages(SPEC)
    except UserError as error:
        raise WorkflowError(str(error)) from None


localrules:
    all,
    code,
    tables,


# Scores and code are listed as targets: in a fresh clone, without Snakemake's records, the report alone does not show
# whether they are there and current.
rule all:
    input:
        PATHS.results / "report.html",
        SCORES,
        REPORT_CODE,
        [MADE_CODE[name] for name in sorted({spec.make for spec in SPEC.all_datasets() if spec.make})],


include: "workflow/rules/data.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/infer.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/report.smk"


# Rules of ablations: ablations/NAME.smk goes with ablations/NAME.yaml.
for extra in sorted(Path("ablations").glob("*.smk")):
    if extra.stem in study.ablations:

        include: extra
