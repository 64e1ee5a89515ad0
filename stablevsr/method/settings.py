"""The settings that a method's frames depend on: guidance, sampling, and how its networks were trained.

The Python API, the command line, the studies and the stores' digests use these pydantic models. Unknown keys are
refused. Every field can change numbers; labels and paths are defined elsewhere.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from stablevsr.method.strategies import STRATEGIES
from stablevsr.runtime.parsing import one_of

Source = Literal["x0", "xt", "none"]
Compensation = Literal["pixel", "latent", "none"]
Grid = Literal["published", "aligned"]
Flow = Literal["raft", "dis"]
RaftNorm = Literal["published", "inference"]
Solver = Literal["ddpm", "ddim", "dpmsolver++", "unipc"]
LRSides = Literal["kept", "published"]
Precision = Literal["fp32", "bf16", "fp16"]
Decoder = Literal["vae", "small"]
Weights = Literal["full", "fp8"]
RateSchedule = Literal["constant", "warmup_cosine"]
Order = Literal["epochs", "pixels"]
Noise = Literal["keyed", "published"]

Strategy = Annotated[str, one_of(STRATEGIES)]  #: a name of :data:`stablevsr.method.strategies.STRATEGIES`

#: The published numbers: what presets change, at its defaults.
_EXACT: dict[str, Any] = {
    "scheduler": "ddpm", "steps": 50, "precision": "fp32", "tf32": False, "guide_every": 1, "guide_from": 0.0,
    "guidance_decoder": "vae", "weights": "full",
}  # fmt: skip
#: Settings of :class:`Sampling` by preset (docs/performance.md has their cost and quality). ``published`` and ``exact``
#: give the same numbers to rounding; the pipeline samples ``published`` in the published order of work.
PRESETS: dict[str, dict[str, Any]] = {
    "published": _EXACT,
    "exact": _EXACT,
    "fast": _EXACT | {"steps": 12, "precision": "bf16", "guidance_decoder": "small"},
}
Preset = Annotated[str, one_of(PRESETS)]

LARGEST_SEED = 2**63 - 1
SMALLEST_TILE = 32  #: LR pixels a side
SMALLEST_FRAME = 8  #: LR pixels a side; in smaller frames the networks' coarsest level is empty


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Guidance(_Settings):
    """Temporal texture guidance: the TCM's image, made from the neighbour frame (paper, eq. 7)."""

    source: Source = "x0"  #: x0 = D(predicted clean latent), xt = D(noisy latent), none = a blank image
    motion_compensation: Compensation = "pixel"  #: warp after decoding, before it (latent), or not at all
    warp: Grid = "published"  #: the released code's half-pixel grid, or the aligned one
    flow: Flow = "raft"  #: flow estimator on the bicubic x4 frames
    #: RAFT's batch normalisation: by the statistics of the current frame, as released, or by the trained ones.
    raft_norm: RaftNorm = "published"

    @property
    def needs_flow(self) -> bool:
        """Whether anything is warped: a blank or unwarped image needs no flow."""
        return self.source != "none" and self.motion_compensation != "none"

    @property
    def of_target(self) -> Guidance:
        """The paper's guidance, on the grid that moves nothing by itself: the image that a target moves towards."""
        return self.model_copy(update={"source": "x0", "motion_compensation": "pixel", "warp": "aligned"})


class Sampling(_Settings):
    """How frames are sampled: the strategy and the solver.

    ``preset: NAME`` among the values gives those of :data:`PRESETS` for the settings that are not given themselves.
    """

    strategy: Strategy = "bidirectional"
    scheduler: Solver = "ddpm"
    steps: int = Field(50, ge=1, le=1000)
    precision: Precision = "fp32"
    tf32: bool = False  #: float32 products and convolutions of a GPU in TF32; of no effect on a CPU
    #: The TCM acts at every k-th step, counted back from the last one (1 = all, as published) ...
    guide_every: int = Field(1, ge=1)
    #: ... after this share of the steps; before it, frames are denoised without a neighbour (0 = all).
    guide_from: float = Field(0.0, ge=0, lt=1)
    #: Decodes the guidance: the VAE, or a small decoder that the study distils from it. The VAE decodes the frames.
    guidance_decoder: Decoder = "vae"
    #: Storage of UNet and TCM: in ``precision``, or in 8 bits (e4m3) that each layer unpacks for its computation.
    weights: Weights = "full"
    compile: bool = False  #: ``torch.compile`` on the blocks of UNet, TCM and VAE (docs/performance.md)
    tile: int | None = Field(None, ge=SMALLEST_TILE)  #: side of the decoder's tiles in LR pixels; None = whole frames
    #: Of a study: keyed by (seed, dataset, sequence, frame, step), the same for every strategy, or one generator a
    #: sequence in the published order of draws, which the pipeline's ``generator`` always has.
    noise: Noise = "keyed"

    @model_validator(mode="before")
    @classmethod
    def _expand_preset(cls, values: Any) -> Any:
        if not isinstance(values, dict) or "preset" not in values:
            return values
        name = values["preset"]
        if not isinstance(name, str) or name not in PRESETS:
            raise ValueError(f"there is no preset {name!r}: known are {', '.join(PRESETS)}")
        return PRESETS[name] | {key: value for key, value in values.items() if key != "preset"}

    @model_validator(mode="after")
    def _check_compile(self) -> Sampling:
        if self.compile and self.weights == "fp8":  # unpacking layer by layer would cut each block into pieces
            raise ValueError("compile and weights: fp8 do not go together: leave one of them out")
        return self


class Optimisation(_Settings):
    """How a network is trained on crops. Defaults are the released ``train.sh`` (batch over all devices)."""

    dataset: str = "reds"
    steps: int = Field(20_000, ge=1)
    batch: int = Field(32, ge=1)
    crop: int = Field(256, ge=16, multiple_of=4)
    optimizer: Literal["adamw", "adam"] = "adamw"
    learning_rate: float = Field(5e-5, gt=0)
    schedule: RateSchedule = "constant"
    warmup_steps: int = Field(0, ge=0)  #: the released script names 500, but its schedule has no warm-up
    #: Of the training clips: every clip once an epoch, shuffled, as released, or drawn in proportion to its pixels.
    order: Order = "epochs"
    #: Ground truth in latent space: a sample of the VAE's distribution, as released, or its mode.
    latents: Literal["sample", "mode"] = "sample"
    max_grad_norm: float = Field(1.0, ge=0)  #: 0 = no clipping
    seed: int = Field(0, ge=0, le=LARGEST_SEED)
    precision: Precision = "fp32"  #: of the computation and of frozen networks; what is trained stays in float32
    tf32: bool = False  #: float32 products and convolutions of a GPU in TF32; of no effect on a CPU
    #: Samples a GPU takes at once (rounding only); None = its whole share of the batch.
    micro_batch: int | None = Field(None, ge=1)
    gradient_checkpointing: bool = False  #: recompute activations instead of keeping them: slower, smaller


class Training(Optimisation):
    """How a TCM is trained; ``guidance`` None means that of the method."""

    neighbour: Literal["past", "both"] = "both"
    guidance: Guidance | None = None
    learning_rate_new: float | None = Field(None, gt=0)  #: for layers not copied from the UNet; None = the same
    #: The TCM's first weights: a copy of the UNet's encoder, as published, or the model folder's own TCM.
    start: Literal["unet", "model"] = "unet"
    conditioning_init: float = Field(0.0, ge=0)  #: std of a copy's last conditioning convolution (published: zero)
    #: Share, times 1 - ᾱ, by which the target moves towards the neighbour's motion-compensated x̂0 (published: 0).
    temporal_weight: float = Field(0.0, ge=0, le=1)
    #: Train on this many samples whose frozen part is computed once for all variants; None = a new sample each time.
    cached_samples: int | None = Field(None, ge=1)

    @property
    def needs_flow(self) -> bool:
        """Whether it estimates flow: for the guidance image, or for a target that moves."""
        return self.temporal_weight > 0 or (self.guidance or Guidance()).needs_flow

    @property
    def of_samples(self) -> Training:
        """The settings with which its cached samples are computed: the same for trainings that can share them.

        The weight is applied after the samples are read. What a target moves towards is computed from the paper's
        guidance image, so a training with a blank image needs nothing that the samples of that guidance lack. Without a
        weight, samples with a blank image cost little, and they stay apart.
        """
        if self.temporal_weight == 0:
            return self
        guidance = self.guidance or Guidance()
        shared = guidance.of_target if guidance.source == "none" else guidance
        return self.model_copy(update={"temporal_weight": 1.0, "guidance": shared})


class Finetuning(Optimisation):
    """How a UNet is fine-tuned as single-image SR with the empty prompt, before any TCM.

    The authors did this on each data set and no longer have the code; they say it was the TCM's script with one frame
    and no ControlNet (their issues #14, #21), so the defaults are the same.
    """


class Distillation(Optimisation):
    """How a small decoder for the guidance is distilled from a model's VAE (not in the paper)."""

    steps: int = Field(10_000, ge=1)
    batch: int = Field(16, ge=1)
    crop: int = Field(128, ge=16, multiple_of=4)
    learning_rate: float = Field(5e-4, gt=0)
    schedule: RateSchedule = "warmup_cosine"
    warmup_steps: int = Field(500, ge=0)
    order: Order = "pixels"
    latents: Literal["sample", "mode"] = "mode"
    width: int = Field(128, ge=1)  #: channels


#: Settings that change numbers by rounding at most, so they are not part of a training's identity.
ROUNDING_ONLY = {"micro_batch", "gradient_checkpointing"}
