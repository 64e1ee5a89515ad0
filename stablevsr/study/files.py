"""The models of study and ablation files. Unknown keys are refused, and the closest known key is suggested."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    StringConstraints,
    Tag,
    model_validator,
)

from stablevsr.baselines import BASELINES
from stablevsr.data.layouts import Layout, Split
from stablevsr.method.settings import Distillation, Finetuning, Guidance, Sampling, Training
from stablevsr.runtime.errors import UserError
from stablevsr.runtime.parsing import ONE_OF_FORMS, one_of

NAME = r"^[A-Za-z0-9][A-Za-z0-9_-]*$"  #: names become file names, wildcards and words of shell commands
Name = Annotated[str, StringConstraints(pattern=NAME)]


#: A name, or a list of names.
Names = Annotated[list[str], BeforeValidator(lambda given: [given] if isinstance(given, str) else given)]


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DatasetModel(_File):
    """What the methods start from: the model and TCM for one test set, in place of the study's."""

    name: str  #: a name under ``finetuned``, ``tiny``, a folder or a hub id
    training: dict[str, Any] = {}  #: merged into the training of every method, e.g. ``dataset``
    checkpoint: Path | None = None  #: a TCM folder for the study's method; None = train one


class Dataset(_File):
    """A set of sequences: made here (``make``), downloaded (``fetch``), or put in place by the user (neither)."""

    title: str
    layout: Layout
    root: Path
    split: Split = "test"
    #: How its LR frames were made, as the protocol of its scores says it; BIx4 is MATLAB-compatible bicubic, x1/4.
    degradation: str = "BIx4"
    make: Literal["mini", "domains"] | None = None  #: made here, by `stablevsr data NAME`, from what ``fetch`` gets
    fetch: list[str] = []  #: registry names, by `stablevsr fetch NAME`
    validation: Dataset | None = None  #: of a training set: what its trainings are validated on
    sequences: list[str] | None = Field(None, min_length=1)  #: only these; None = all of the split
    frames: int | None = Field(None, ge=1)  #: only the first frames of each sequence (clip length)
    every: int = Field(1, ge=1)  #: every k-th frame (frame rate)
    shards: int = Field(1, ge=1, le=1000)
    runs: int | None = Field(None, ge=1, le=100)  #: None = the study's
    model: DatasetModel | None = None  #: None = the study's model and TCM
    #: Where the set is used by default; an ablation may also name it.
    used_by: tuple[Literal["table1", "ablations"], ...] = ("table1", "ablations")


METHOD_KINDS = (*BASELINES, "frames", "command")  #: of methods that are not StableVSR


MethodKind = Annotated[str, one_of(METHOD_KINDS)]
#: A kind, or kinds by data set.
MethodKinds = Annotated[
    Annotated[MethodKind, Tag(ONE_OF_FORMS)] | Annotated[dict[Name, MethodKind], Tag("by data set")],
    Discriminator(lambda given: "by data set" if isinstance(given, dict) else ONE_OF_FORMS),
]


class Resources(_File):
    """What a job with a command takes. What is left out is as in the study's other jobs."""

    threads: int | None = Field(None, ge=1)
    gpu: int | None = Field(None, ge=0)  #: number of GPUs
    mem_mb: int | None = Field(None, ge=1)
    runtime: int | None = Field(None, ge=1)  #: minutes, after which a cluster ends the job


class Baseline(_File):
    """A method that is not StableVSR: computed here, by a command, or frames from a folder."""

    label: str
    kind: MethodKinds = "frames"  #: one for all data sets, or by data set
    frames: Path | None = None  #: kind frames: ``root/sequence/frame.png``; {dataset} is replaced by the dataset's name
    command: str | None = None  #: kind command: a shell command with {lr} and {frames} (docs/baselines.md)
    workdir: Path | None = None  #: where it runs; None = in a new folder
    env: dict[str, Annotated[str, Field(coerce_numbers_to_str=True)]] = {}  #: variables for it
    per: Literal["sequence", "shard"] = "sequence"  #: what it runs once for
    resources: Resources = Resources()  #: of a job with it

    def kinds(self) -> list[str]:
        """All its kinds."""
        return list(self.kind.values()) if isinstance(self.kind, dict) else [self.kind]


class Claim(_File):
    """A statement that the study checks: ``better`` beats ``than`` in ``metric`` (by its direction).

    ``same`` and ``as`` in their place say that the two do not differ by more than the metric's margin. Where several
    metrics, rivals or methods are listed, each is a statement.
    """

    metric: Names
    better: str | None = None
    than: Names = []
    same: Names = []
    as_: str | None = Field(None, alias="as")
    datasets: list[str] | None = None  #: None = all of the table's
    source: str = ""  #: where the paper says so

    def pairs(self) -> list[tuple[str, str]]:
        """The methods of each statement, as (better, than) or (same, as). Raises :class:`UserError` for other forms."""
        if self.better and self.than and not (self.same or self.as_):
            return [(self.better, rival) for rival in self.than]
        if self.same and self.as_ and not (self.better or self.than):
            return [(name, self.as_) for name in self.same]
        raise UserError("a claim names either better and than, or same and as")


class Variant(_File):
    """One row of an ablation: only what differs from the study's method."""

    label: str
    guidance: dict[str, Any] = {}
    sampling: dict[str, Any] = {}
    training: dict[str, Any] = {}
    model: str | None = None  #: another base model; its TCM is trained unless ``checkpoint`` is set
    checkpoint: Path | None = None  #: a TCM folder to use instead of training one
    frames: Path | None = None  #: frames to use instead of computing them; {dataset} and {study} are replaced


class Ablation(_File):
    """One question, a few variants (ablations/README.md)."""

    title: str
    question: str
    paper: str = ""
    studies: list[str] | None = None  #: studies that may list it (``all`` skips it elsewhere); None = any
    datasets: list[str] | None = None  #: None = those of the study that ablations use
    variants: dict[Name, Variant] = Field(min_length=1)
    #: Other methods of the study that its table shows under a label, where no variant has the same settings.
    also: dict[str, str] = {}
    claims: list[Claim] = []
    no_claims: str = ""  #: why there are none: a sentence or two for the page

    @model_validator(mode="after")
    def _check_reason(self) -> Ablation:
        if self.claims and self.no_claims:
            raise ValueError("no_claims says why there are no claims, and there are some: leave one of them out")
        return self


class Reference(_File):
    """The method under study with all its settings; variants of ablations change some of them."""

    label: str = "StableVSR"
    guidance: Guidance = Guidance()
    sampling: Sampling = Sampling()
    training: Training = Training()
    checkpoint: Path | None = None  #: a TCM folder; `model` = the base model's own TCM; None = train one


class Finetuned(_File):
    """A base model made by the study: the UNet of another one, fine-tuned as single-image SR."""

    base: str = "stabilityai/stable-diffusion-x4-upscaler"  #: hub id, folder or ``tiny``
    training: Finetuning = Finetuning()


class Study(_File):
    """A study file, ``workflow/studies/NAME.yaml``."""

    title: str
    description: str = ""
    #: hub id (``owner/name``, or ``owner/name@commit``), folder, ``tiny``, or a name under ``finetuned``
    model: str = "claudiom4sir/StableVSR"
    finetuned: dict[Name, Finetuned] = {}
    device: Literal["auto", "cpu", "cuda"] = "auto"
    datasets: dict[Name, Dataset] = Field(min_length=1)
    training_datasets: dict[Name, Dataset] = {}
    metrics: list[str]
    weights: Literal["require", "skip"] = "require"
    method: Reference = Reference()
    distillation: Distillation = Distillation()  #: of the small decoders that variants use
    methods: dict[Name, Baseline] = {}
    ablations: list[str] = []
    retrain_guidance: bool = False  #: train a TCM for each variant that changes the guidance (as the paper)
    table1: list[str] = []  #: methods of Table 1 besides the study's own and its baselines
    claims: list[Claim] = []
    #: How often everything random is repeated. In run k, counted from 0, the noise has seed k, and every network is
    #: trained with its ``seed`` + k; the methods of a run share these trainings.
    runs: int = Field(1, ge=1, le=100)
    batch: int = Field(1, ge=1)  #: sequences of one shape sampled together
    threads: int = Field(1, ge=1)  #: of one inference or training job
    training_processes: int = Field(1, ge=1, le=1000)  #: that share every training; each takes a GPU if there are any

    def all_datasets(self) -> tuple[Dataset, ...]:
        """All test sets, then all training sets and their validation sets."""
        validation = (spec.validation for spec in self.training_datasets.values() if spec.validation)
        return (*self.datasets.values(), *self.training_datasets.values(), *validation)


class _Loader(yaml.SafeLoader):
    """The safe loader, which also refuses duplicate keys: YAML would take the last of them."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Check the keys before the parent's method adds those of merged mappings (``<<``)."""
        seen = set()
        for key, _ in node.value:
            if key.tag != "tag:yaml.org,2002:merge" and isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    problem = f"the key '{key.value}' is there twice"
                    raise yaml.MarkedYAMLError(problem=problem, problem_mark=key.start_mark)
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def load_yaml(path: Path) -> Any:
    """Parse a YAML file. Raises :class:`UserError` that names the file and line."""
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except FileNotFoundError as error:
        raise UserError(f"there is no file {path}") from error
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise UserError(f"{path}{line}: no valid YAML: {error.problem}") from error
    except RecursionError as error:
        raise UserError(f"{path} is nested too deeply: a study or ablation has a few levels") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is no valid YAML: {' '.join(str(error).split())}") from error
    if content is None:
        raise UserError(f"{path} is empty")
    return content
