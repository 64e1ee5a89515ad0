"""StableVSRPipeline: the method as a pipeline of diffusers, which upscales LR frames x4.

The published settings (bidirectional strategy, DDPM with 50 steps, x̂0 guidance compensated in pixels, the published
warp grid, RAFT) are the defaults and reproduce the released code's numbers. A model that was trained with another warp
grid or flow estimator stores its own defaults in ``model_index.json``.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from inspect import signature
from numbers import Integral
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from diffusers import DiffusionPipeline
from diffusers.utils import BaseOutput
from numpy.typing import NDArray
from PIL.Image import Image
from torch import Tensor

from stablevsr.data.frames import lanczos_to_multiples, to_rgb8
from stablevsr.method.compiled import check_compiler
from stablevsr.method.dtypes import DTYPES
from stablevsr.method.flow import FlowEstimator, flow_by_name
from stablevsr.method.loading import encode_empty_prompt, keep_finite, load_parts
from stablevsr.method.model_folder import PARTS, default_guidance, find_model, tcm_folder
from stablevsr.method.networks import ModelParts
from stablevsr.method.noise import Sources
from stablevsr.method.sampler import AT_ONCE, Progress, Sampler, decode_frames
from stablevsr.method.settings import (
    PRESETS,
    SMALLEST_FRAME,
    Compensation,
    Flow,
    Grid,
    Guidance,
    LRSides,
    Precision,
    Preset,
    Sampling,
    Solver,
    Source,
    Strategy,
    Weights,
)
from stablevsr.method.strategies import is_guided
from stablevsr.runtime.devices import device_of
from stablevsr.runtime.errors import UserError, near_miss
from stablevsr.runtime.parsing import parse
from stablevsr.runtime.timing import Stage, untimed

Frames = Sequence[Any] | NDArray[np.uint8]


@dataclass
class StableVSROutput(BaseOutput):  # type: ignore[misc]
    """``frames``: np float32 (N, 4h, 4w, 3) in [0, 1]; pt float32 (N, 3, 4h, 4w) in [0, 1]; or a list of PIL images."""

    frames: Any


class StableVSRPipeline(DiffusionPipeline):  # type: ignore[misc]
    """Diffusion video super-resolution with temporal texture guidance (arXiv 2311.15908).

    Args:
        unet, vae, text_encoder, tokenizer, scheduler: as :meth:`from_pretrained` loads them.
        controlnet: the TCM; without one only ``single_frame`` can be sampled.
        guidance_decoder: a small decoder for the guidance; None = the VAE.
        flow: the default flow estimator, stored in ``model_index.json``.
        warp: the default warp grid, stored there too.
    """

    #: UNet, TCM and VAE alternate at every frame, so under CPU offload each stays on the GPU until all frames are
    #: sampled, instead of leaving it when the next one runs.
    model_cpu_offload_seq = "unet"
    _optional_components = ["controlnet", "guidance_decoder"]  # noqa: RUF012

    def __init__(
        self,
        unet: Any,
        vae: Any,
        text_encoder: Any,
        tokenizer: Any,
        scheduler: Any,
        controlnet: Any = None,
        guidance_decoder: Any = None,
        flow: Flow = "raft",
        warp: Grid = "published",
    ) -> None:
        super().__init__()
        self.register_modules(unet=unet, vae=vae, controlnet=controlnet, guidance_decoder=guidance_decoder)
        self.register_modules(text_encoder=text_encoder, tokenizer=tokenizer, scheduler=scheduler)
        self.register_to_config(flow=flow, warp=warp)
        self.preset: Preset = "exact"
        self._prompt = encode_empty_prompt(tokenizer, text_encoder)
        self._networks = ModelParts(unet, vae, controlnet, {}, self._prompt, self.device)

    @classmethod
    def from_pretrained(
        cls,
        model: str | Path = "claudiom4sir/StableVSR",
        *,
        torch_dtype: torch.dtype | None = None,
        device: str | torch.device | None = None,
        precision: Precision | None = None,
        preset: Preset = "exact",
        revision: str | None = None,
        tcm: str | Path | None = None,
        guidance_decoder: str | Path | None = None,
        tile: int | Literal["auto"] | None = "auto",
        weights: Weights = "full",
        compile: bool = False,
        flow: Flow | None = None,
        warp: Grid | None = None,
        **parts: Any,
    ) -> StableVSRPipeline:
        """Load a model.

        Args:
            model: hub id, local folder in that layout, or ``tiny`` (the model embedded in this package).
            torch_dtype: of the networks, float32 by default; latents, scheduler and text encoder stay in float32.
            device: None takes CUDA where there is one.
            precision: ``torch_dtype`` by name: fp32, bf16 or fp16.
            preset: ``exact``; ``published``, the same numbers in the published order of work; or ``fast``: fewer steps
                in bf16, and a small decoder for the guidance where the model has one.
            revision: commit of the hub repository.
            tcm: folder of another TCM (``config.json`` and safetensors), or of a model or a checkpoint of the released
                training with a ``controlnet/``; in place of ``model``'s.
            guidance_decoder: folder of a small decoder for the guidance (``stablevsr train decoder``), or ``stored``,
                the one saved with the model; None = the VAE, but with ``fast`` the stored one if there is one.
            tile: side of the decoder's tiles in LR pixels, for GPUs with little memory; None decodes whole frames;
                ``auto`` decodes whole frames and changes to tiles when memory runs out.
            weights: ``fp8`` keeps UNet and TCM in 8 bits, which changes the frames a little.
            compile: compile the blocks of the networks at the first call with each shape (frame, batch or tile size),
                which takes minutes; later runs on the machine start sooner. For GPUs; not with ``weights="fp8"``.
            flow: default flow estimator in place of the stored one.
            warp: default warp grid in place of the stored one.
            parts: loaded parts in place of ``model``'s, by name: ``unet``, ``vae``, ... With ``controlnet=None`` there
                is no TCM, and only ``single_frame`` can be sampled.

        Raises:
            UserError: a part is missing or damaged, an argument is unknown, or the hub cannot be reached.
        """
        for name in set(parts) - set(PARTS):
            known = [*PARTS, *signature(cls.from_pretrained).parameters]
            raise UserError(f"from_pretrained takes no '{name}'{near_miss(name, known)}")
        _check_dtype(torch_dtype, precision)
        given = {"preset": preset, "weights": weights, "compile": compile, "tile": None if tile == "auto" else tile}
        how = parse(Sampling, given | ({"precision": precision} if precision else {}), "from_pretrained")
        if how.compile:
            check_compiler()
        chosen = torch.device(device_of("auto" if device is None else str(device)))
        folder = find_model(model, revision)
        defaults = default_guidance(folder, flow, warp)
        if tcm is not None:
            parts["controlnet"] = tcm_folder(tcm) if isinstance(tcm, str | Path) else tcm
        if guidance_decoder is None and how.guidance_decoder == "small":
            guidance_decoder = "stored"
        if guidance_decoder != "stored":
            parts["guidance_decoder"] = guidance_decoder
        parts = load_parts(folder, chosen, torch_dtype or DTYPES[how.precision], parts)
        pipe = cls(**parts, flow=defaults.flow, warp=defaults.warp)
        pipe.preset = preset
        pipe.networks.may_tile = tile == "auto"
        pipe.networks.prepare(how, channels_last=chosen.type == "cpu" and preset != "published")
        return pipe

    @property
    def networks(self) -> ModelParts:
        """The current networks for the sampler, with the device on which they run, also under CPU offload."""
        device = self._execution_device
        self._networks = replace(  # keeps the tile size that was found to fit
            self._networks,
            unet=self.unet,
            vae=self.vae,
            tcm=self.controlnet,
            scheduler=dict(self.scheduler.config),
            prompt=self._prompt.to(device, self.unet.dtype),
            device=device,
            guidance_decoder=self.guidance_decoder,
        )
        return self._networks

    def to(self, *args: Any, **kwargs: Any) -> StableVSRPipeline:
        """As in diffusers; a VAE that would overflow in float16 stays in float32, as when it is loaded."""
        super().to(*args, **kwargs)
        keep_finite(self.vae)
        return self

    @torch.no_grad()
    def __call__(
        self,
        frames: Frames,
        num_inference_steps: int | None = None,
        strategy: Strategy = "bidirectional",
        warp: Grid | None = None,
        generator: torch.Generator | list[torch.Generator] | None = None,
        flow_estimator: FlowEstimator | Flow | None = None,
        output_type: Literal["np", "pt", "pil"] = "np",
        *,
        scheduler: Solver = "ddpm",
        source: Source = "x0",
        motion_compensation: Compensation = "pixel",
        lr_sides: LRSides = "kept",
    ) -> StableVSROutput:
        """Upscale one sequence, with diffusers' progress bar (``set_progress_bar_config``) over its frame-steps.

        Args:
            frames: list of PIL images, or uint8 array (N, h, w, 3), all of one size. Images are read as files are
                (:func:`stablevsr.data.frames.to_rgb8`).
            num_inference_steps: denoising steps; None = 50, or those of the preset that the model was loaded with.
            strategy: single_frame, auto_regressive, unidirectional or bidirectional.
            warp: ``published`` grid or ``aligned``; None = the model's default.
            generator: draws the noise in the published order, or a list of one generator. Use one on the CPU: the
                frames then do not depend on the device. One on a GPU repeats the published code's draws there. None =
                a random seed.
            flow_estimator: callable (target, source) of bicubic x4 frames, each (B, 3, 4h, 4w), nominally in [-1, 1]
                and not clamped, to (B, 2, 4h, 4w) pixels; ``"raft"``, ``"dis"``; None = the model's default.
            output_type: np, pt or pil, see :class:`StableVSROutput`.
            scheduler: ddpm, ddim, dpmsolver++ or unipc.
            source: the latent that guides: ``x0``, ``xt`` or ``none``.
            motion_compensation: ``pixel``, ``latent`` or ``none``.
            lr_sides: ``published`` shrinks frames to sides that are multiples of 4, by Lanczos, as the released code
                does: their x4 frames are smaller than 4 times the given ones. ``kept`` takes frames as they are.

        Raises:
            UserError: no frames, frames of different sizes, or not 8-bit RGB; a setting that does not exist; several
                generators.
        """
        if isinstance(frames, str):
            raise UserError(f"frames is the text {frames!r}: this pipeline takes no prompt, call pipe(frames)")
        if output_type not in ("np", "pt", "pil"):
            raise UserError(f"output_type {output_type!r} is not one of np, pt, pil")
        steps = PRESETS[self.preset]["steps"] if num_inference_steps is None else num_inference_steps
        if isinstance(steps, bool) or not (isinstance(steps, Integral) and 1 <= int(steps) <= 1000):
            raise UserError(f"num_inference_steps {steps!r} is not a whole number from 1 to 1000")
        steps = int(steps)
        sampling = parse(Sampling, {"strategy": strategy, "scheduler": scheduler, "steps": steps}, "sampling")
        defaults = {"flow": self.config.flow, "warp": self.config.warp if warp is None else warp}
        chosen = {"source": source, "motion_compensation": motion_compensation, **defaults}
        guidance = parse(Guidance, chosen, "guidance")
        lr, noise = to_tensor(frames, lr_sides)[None], _one_generator(generator)
        with self.progress_bar(total=steps * lr.shape[1]) as bar:
            latents = self.sample(lr, [noise], sampling, guidance, flow_estimator, bar.update)[0]
        self.maybe_free_model_hooks()  # makes room for the largest decoding
        images = torch.stack([image.cpu() for image in decode_frames(self.networks, latents)])
        self.maybe_free_model_hooks()
        if output_type == "pt":
            return StableVSROutput(images)
        array = images.permute(0, 2, 3, 1).numpy()
        return StableVSROutput(array if output_type == "np" else self.numpy_to_pil(array))

    def sample(
        self,
        lr: Tensor,
        sources: Sources,
        sampling: Sampling,
        guidance: Guidance,
        flow_estimator: FlowEstimator | Flow | None = None,
        progress: Progress | None = None,
        stage: Stage = untimed,
    ) -> Tensor:
        """Sample several sequences of one shape side by side: LR (S, N, 3, h, w) in [-1, 1] -> latents (S, N, 4, h, w).

        Each sequence has its own source of noise: a key for noise by frame and step (:mod:`.noise`), or a generator for
        the published order of draws. Its latents do not depend on the other sequences, up to rounding. ``progress`` is
        called with the number of frame-steps just done.
        """
        networks = self.networks
        if is_guided(sampling.strategy) and networks.tcm is None:
            raise UserError(f"strategy {sampling.strategy} needs a TCM, and this pipeline was loaded without one")
        if guidance.source == "xt" and networks.guidance_decoder is not None:
            raise UserError("the small decoder learned clean latents and cannot decode noisy ones: leave out source xt")
        needs_flow = is_guided(sampling.strategy) and lr.shape[1] > 1 and guidance.needs_flow
        if not callable(flow_estimator):
            # DIS, which loads nothing, where the estimator is never called
            name = flow_estimator or guidance.flow if needs_flow else "dis"
            flow_estimator = flow_by_name(name, networks.device, guidance.raft_norm)
        at_once = 1 if self.preset == "published" else AT_ONCE
        return Sampler(networks, sampling, guidance, flow_estimator, at_once, progress, stage)(lr, sources)


def _check_dtype(torch_dtype: torch.dtype | None, precision: str | None) -> None:
    """Raise :class:`UserError` if both name a precision, or for a dtype that networks cannot have."""
    if torch_dtype is not None and precision is not None:
        raise UserError(f"give either torch_dtype or precision, not both ({torch_dtype}, {precision})")
    if torch_dtype is not None and torch_dtype not in DTYPES.values():
        raise UserError(f"torch_dtype is {torch_dtype!r}: give one of {', '.join(map(str, DTYPES.values()))}")


def load_networks(
    folder: Path, device: str | torch.device = "cpu", precision: Precision = "fp32", with_tcm: bool = True
) -> ModelParts:
    """The networks of a model folder, for training and measurements. Raises :class:`UserError`."""
    given: dict[str, Any] = {"guidance_decoder": None} | ({} if with_tcm else {"controlnet": None})
    return StableVSRPipeline(**load_parts(folder, device, DTYPES[precision], given)).networks


def _one_generator(given: torch.Generator | list[torch.Generator] | None) -> torch.Generator:
    """The generator of a sequence, randomly seeded if none is given."""
    generators = given if isinstance(given, list | tuple) else [given]
    if len(generators) != 1:
        raise UserError(f"{len(generators)} generators were given: a sequence takes one")
    generator = generators[0]
    if generator is None:
        generator = torch.Generator()
        generator.seed()
    elif not isinstance(generator, torch.Generator):
        raise UserError(f"generator is a {type(generator).__name__}: give torch.Generator().manual_seed(...)")
    elif generator.device.type != "cpu":
        warnings.warn(
            f"the generator is on {generator.device}: its frames repeat the published code's on that device, and "
            "no other device gives the same; use a generator on the CPU for frames that do not depend on the device",
            stacklevel=3,
        )
    return generator


def to_tensor(frames: Frames, lr_sides: LRSides = "kept") -> Tensor:
    """LR frames (list of PIL images or uint8 (N, h, w, 3)) to float32 (N, 3, h, w) in [-1, 1], or a UserError."""
    if lr_sides not in get_args(LRSides):
        raise UserError(f"lr_sides {lr_sides!r} is not one of {', '.join(get_args(LRSides))}")
    if isinstance(frames, Image) or not isinstance(frames, Iterable) or getattr(frames, "shape", None) == ():
        given = "a single image" if isinstance(frames, Image) else type(frames).__name__
        raise UserError(f"{given} was given: give a list of frames")
    arrays = [to_rgb8(f, f"frame {i}") if isinstance(f, Image) else f for i, f in enumerate(frames)]
    if not arrays:
        raise UserError("there are no frames to upscale")
    for frame in arrays:
        if not isinstance(frame, np.ndarray):
            raise UserError(f"frames must be PIL images or arrays, not {type(frame).__name__}")
    sizes = {a.shape for a in arrays}
    if len(sizes) > 1:
        shown = ", ".join(sorted(f"{s[1]}x{s[0]}" for s in sizes))
        raise UserError(f"the frames of a sequence differ in size ({shown}): give frames of one size")
    shape = arrays[0].shape
    if len(shape) != 3 or shape[2] != 3 or arrays[0].dtype != np.uint8:
        raise UserError(f"frames must be 8-bit RGB, (h, w, 3) uint8; got {shape} {arrays[0].dtype}")
    if min(shape[:2]) < SMALLEST_FRAME:
        raise UserError(
            f"frames of {shape[1]}x{shape[0]} are too small: at least {SMALLEST_FRAME} pixels a side are needed"
        )
    if lr_sides == "published":
        arrays = [lanczos_to_multiples(frame, 4) for frame in arrays]
    return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).float() / 127.5 - 1
