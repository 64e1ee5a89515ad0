"""The models of study and ablation files. Unknown keys are refused, and the closest known key is suggested."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from stablevsr.baselines import BASELINES
from stablevsr.data.layouts import Layout, Split
from stablevsr.method.settings import LARGEST_SEED, Distillation, Finetuning, Guidance, Sampling, Training
from stablevsr.runtime.errors import UserError
from stablevsr.runtime.parsing import one_of

Seeds = Annotated[list[Annotated[int, Field(ge=0, le=LARGEST_SEED)]], Field(min_length=1)]
NAME = r"^[A-Za-z0-9][A-Za-z0-9_-]*$"  #: names become file names, wildcards and words of shell commands
Name = Annotated[str, StringConstraints(pattern=NAME)]


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
    make: Literal["mini"] | None = None  #: made here, by `stablevsr data NAME`, from what ``fetch`` downloads
    fetch: list[str] = []  #: registry names, by `stablevsr fetch NAME`
    validation: Dataset | None = None  #: of a training set: what its trainings are validated on
    sequences: list[str] | None = Field(None, min_length=1)  #: only these; None = all of the split
    frames: int | None = Field(None, ge=1)  #: only the first frames of each sequence (clip length)
    every: int = Field(1, ge=1)  #: every k-th frame (frame rate)
    shards: int = Field(1, ge=1)
    model: DatasetModel | None = None  #: None = the study's model and TCM
    #: Where the set is used by default; an ablation may also name it.
    used_by: tuple[Literal["table1", "ablations"], ...] = ("table1", "ablations")


KINDS = (*BASELINES, "frames")  #: of methods that are not StableVSR


class Baseline(_File):
    """A method that is not StableVSR: computed here, or frames from a folder (``root/sequence/frame.png``)."""

    label: str
    kind: Annotated[str, one_of(KINDS)] = "frames"
    frames: Path | None = None  #: for kind frames: the folder; {dataset} is replaced by the dataset's name


class Claim(_File):
    """A statement of the paper that the study checks: ``better`` beats ``than`` in ``metric`` (by its direction)."""

    metric: str
    better: str
    than: str | None = None  #: None = every other method of the table
    datasets: list[str] | None = None  #: None = all of the table's
    source: str = ""  #: where the paper says so


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
    claims: list[Claim] = []


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
    model: str = "claudiom4sir/StableVSR"  #: hub id, folder, ``tiny``, or a name under ``finetuned``
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
    seeds: Seeds = [0]
    more_seeds: dict[str, Seeds] = {}  #: method name -> seeds, for the methods that carry a claim
    batch: int = Field(1, ge=1)  #: sequences of one shape sampled together
    threads: int = Field(1, ge=1)  #: of one inference or training job
    training_processes: int = Field(1, ge=1)  #: that share every training; each takes a GPU if there are any

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
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is no valid YAML: {' '.join(str(error).split())}") from error
    if content is None:
        raise UserError(f"{path} is empty")
    return content
