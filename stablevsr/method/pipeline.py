"""StableVSRPipeline: a model folder or hub id in, sharper frames out (x4).

Built on diffusers' model classes. The published settings (bidirectional strategy, DDPM with 50 steps, x̂0 guidance
compensated in pixels, the published warp grid, RAFT) are the defaults and reproduce the released code's numbers; the
tiny model alone defaults to the grid and the flow that it was trained with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stablevsr.method import components as models
from stablevsr.method.flow import DISFlow, FlowEstimator, RAFTFlow
from stablevsr.method.sampler import Progress, Sampler, decode_frames, to_uint8
from stablevsr.method.settings import (
    Compensation,
    Flow,
    Grid,
    Guidance,
    Precision,
    Sampling,
    Solver,
    Source,
    Strategy,
    Weights,
    default_flow,
    default_warp,
)
from stablevsr.method.strategies import is_guided
from stablevsr.runtime.errors import UserError
from stablevsr.runtime.parsing import parse
from stablevsr.runtime.timing import Stage, untimed

Frames = Sequence[Any] | NDArray[np.uint8]
SMALLEST = 8  #: pixels a side of an LR frame; below it the networks' coarsest level is empty


@dataclass(frozen=True)
class StableVSROutput:
    """``frames``: np float32 (N, 4h, 4w, 3) in [0, 1]; pt float32 (N, 3, 4h, 4w) in [0, 1]; or a list of PIL images."""

    frames: Any


class StableVSRPipeline:
    """Diffusion video super-resolution with temporal texture guidance (arXiv 2311.15908)."""

    def __init__(self, components: models.Components, flow: Flow = "raft", warp: Grid = "published") -> None:
        self.components = components
        self.flow = flow  #: the motion estimator where none is given
        self.warp = warp  #: the warp grid where none is given

    @classmethod
    def from_pretrained(
        cls,
        model: str | Path = "claudiom4sir/StableVSR",
        *,
        tcm: str | Path | None = None,
        device: str | torch.device | None = None,
        precision: Precision = "fp32",
        revision: str | None = None,
        with_tcm: bool = True,
        tile: int | Literal["auto"] | None = "auto",
        guidance_decoder: str | Path | None = None,
        weights: Weights = "full",
    ) -> StableVSRPipeline:
        """Load a model.

        Args:
            model: hub id, local folder in that layout, or ``tiny`` (the model embedded in this package).
            tcm: folder of another TCM (``config.json`` and safetensors), in place of ``model``'s ``controlnet/``.
            device: None takes CUDA where there is one.
            precision: of the networks; latents and scheduler stay in float32.
            revision: commit of the hub repository.
            with_tcm: False loads no TCM; only ``single_frame`` can then be sampled.
            tile: decode in tiles of so many LR pixels a side, for cards with little memory; None decodes whole frames;
                ``auto`` whole frames, and tiles from where memory runs out.
            guidance_decoder: folder of a small decoder for the guidance (``stablevsr train decoder``); None = the VAE.
            weights: ``fp8`` keeps UNet and TCM in 8 bits, which changes the frames a little.

        Raises:
            UserError: a part is missing or damaged, or the hub cannot be reached.
        """
        for name, given, known in (("precision", precision, Precision), ("weights", weights, Weights)):
            if given not in get_args(known):
                raise UserError(f"{name} {given!r} is not one of {', '.join(get_args(known))}")
        chosen = device or ("cuda" if torch.cuda.is_available() else "cpu")
        folder = models.find_model(model, revision)
        small = Path(guidance_decoder) if guidance_decoder else None
        components = models.load_components(folder, Path(tcm) if tcm else None, chosen, precision, with_tcm, small)
        if weights == "fp8":
            components.pack()
        if components.device.type == "cpu":
            components.channels_last()
        components.tile, components.may_tile = None if tile == "auto" else tile, tile == "auto"
        return cls(components, default_flow(model), default_warp(model))

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        return self.components.device

    def __call__(
        self,
        frames: Frames,
        num_inference_steps: int = 50,
        strategy: Strategy = "bidirectional",
        warp: Grid | None = None,
        generator: torch.Generator | None = None,
        flow_estimator: FlowEstimator | Literal["raft", "dis"] | None = None,
        output_type: Literal["np", "pt", "pil"] = "np",
        *,
        scheduler: Solver = "ddpm",
        source: Source = "x0",
        motion_compensation: Compensation = "pixel",
        progress: Progress | None = None,
    ) -> StableVSROutput:
        """Upscale one sequence.

        Args:
            frames: list of PIL images, or uint8 array (N, h, w, 3), all of one size.
            num_inference_steps: denoising steps.
            strategy: single_frame, auto_regressive, unidirectional or bidirectional.
            warp: ``published`` grid or ``aligned``; None = published, aligned for ``tiny``, which was trained with it.
            generator: on the CPU; draws the noise in the published order. None draws a fresh seed.
            flow_estimator: callable (target, source), each (B, 3, 4h, 4w) in [-1, 1], to (B, 2, 4h, 4w) pixels;
                ``"raft"``, ``"dis"``; None = RAFT, DIS for ``tiny``, which was trained with it.
            output_type: np, pt or pil, see :class:`StableVSROutput`.
            scheduler: ddpm, ddim, dpmsolver++ or unipc.
            source: what guides: ``x0``, ``xt`` or ``none``.
            motion_compensation: ``pixel``, ``latent`` or ``none``.
            progress: called with the number of frame-steps just done.

        Raises:
            UserError: no frames, frames of different sizes, or not 8-bit RGB; a setting that does not exist.
        """
        if output_type not in ("np", "pt", "pil"):
            raise UserError(f"output_type {output_type!r} is not one of np, pt, pil")
        if not (isinstance(num_inference_steps, int) and 1 <= num_inference_steps <= 1000):
            raise UserError(f"num_inference_steps {num_inference_steps!r} is no whole number from 1 to 1000")
        how = {"strategy": strategy, "scheduler": scheduler, "steps": num_inference_steps}
        sampling = parse(Sampling, how, "sampling")
        seen = {
            "source": source,
            "motion_compensation": motion_compensation,
            "warp": self.warp if warp is None else warp,
        }
        guidance = parse(Guidance, {**seen, "flow": self.flow}, "guidance")
        lr = to_tensor(frames)[None]
        if generator is None:
            generator = torch.Generator()
            generator.seed()
        latents = self.sample(lr, [generator], sampling, guidance, flow_estimator, progress)[0]
        return StableVSROutput(_convert(torch.stack(list(decode_frames(self.components, latents))).cpu(), output_type))

    def sample(
        self,
        lr: Tensor,
        generators: Sequence[torch.Generator],
        sampling: Sampling,
        guidance: Guidance,
        flow_estimator: FlowEstimator | Literal["raft", "dis"] | None = None,
        progress: Progress | None = None,
        stage: Stage = untimed,
    ) -> Tensor:
        """Sample several sequences of one shape side by side: LR (S, N, 3, h, w) in [-1, 1] -> latents (S, N, 4, h, w).

        Each sequence has its own CPU generator and comes out as it would alone, up to rounding.
        """
        if is_guided(sampling.strategy) and self.components.tcm is None:
            raise UserError(f"strategy {sampling.strategy} needs a TCM, and this pipeline was loaded without one")
        if any(g.device.type != "cpu" for g in generators):
            raise UserError("give a generator on the CPU: noise must not depend on the device it is used on")
        estimator = self._estimator(flow_estimator, sampling, guidance, lr.shape[1])
        return Sampler(self.components, sampling, guidance, estimator, progress=progress, stage=stage)(lr, generators)

    def _estimator(
        self, given: FlowEstimator | Literal["raft", "dis"] | None, sampling: Sampling, guidance: Guidance, frames: int
    ) -> FlowEstimator:
        if callable(given):
            return given
        if not is_guided(sampling.strategy) or frames == 1 or not guidance.needs_flow:
            return _no_flow
        return flow_by_name(given or guidance.flow, self.device)


def _no_flow(target: Tensor, source: Tensor) -> Tensor:
    raise AssertionError("this strategy needs no optical flow")


def flow_by_name(name: str, device: torch.device | str) -> FlowEstimator:
    """``raft`` (weights from the local cache, checked) or ``dis``. Raises :class:`UserError` if they are not there."""
    if name not in get_args(Flow):
        raise UserError(f"there is no motion estimator {name!r}: known are {', '.join(get_args(Flow))}")
    if name == "dis":
        return DISFlow()
    from stablevsr.data.downloads.weights import weight_file

    return RAFTFlow(weight_file("raft"), device)


def to_tensor(frames: Frames) -> Tensor:
    """LR frames (list of PIL images or uint8 (N, h, w, 3)) to float32 (N, 3, h, w) in [-1, 1], or a UserError."""
    if hasattr(frames, "convert"):
        raise UserError("a single image was given: give a list of frames")
    for frame in frames:
        if not isinstance(frame, np.ndarray) and not hasattr(frame, "convert"):
            raise UserError(f"frames must be PIL images or arrays, not {type(frame).__name__}")
    if isinstance(frames, np.ndarray):
        arrays: list[NDArray[Any]] = list(frames)
    else:
        arrays = [f if isinstance(f, np.ndarray) else np.asarray(f.convert("RGB")) for f in frames]
    if not arrays:
        raise UserError("there are no frames to upscale")
    sizes = {a.shape for a in arrays}
    if len(sizes) > 1:
        shown = ", ".join(sorted(f"{s[1]}x{s[0]}" for s in sizes))
        raise UserError(f"the frames of a sequence differ in size ({shown}): give frames of one size")
    shape = arrays[0].shape
    if len(shape) != 3 or shape[2] != 3 or arrays[0].dtype != np.uint8:
        raise UserError(f"frames must be 8-bit RGB, (h, w, 3) uint8; got {shape} {arrays[0].dtype}")
    if min(shape[:2]) < SMALLEST:
        raise UserError(f"frames of {shape[1]}x{shape[0]} are too small: at least {SMALLEST} pixels a side are needed")
    stacked = torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2)
    return stacked.float() / 127.5 - 1


def _convert(images: Tensor, output_type: str) -> Any:
    if output_type == "pt":
        return images
    if output_type == "np":
        return images.permute(0, 2, 3, 1).numpy()
    from PIL import Image

    return [Image.fromarray(to_uint8(image)) for image in images]
