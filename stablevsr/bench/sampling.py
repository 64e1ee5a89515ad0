"""``stablevsr bench``: how fast this machine samples, stage by stage, and what the faster presets change.

Every preset samples the same frames from the same noise in one run, from LR frames in memory to PNG files.
``published`` does the published work in the published order: float32, one frame of one sequence after another. The
others are compared with it: speed, and the PSNR between the two outputs. Time outside all stages is a lower bound of
the device's idle time.
"""

from __future__ import annotations

import json
import platform
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from stablevsr.data.frames import write_frame
from stablevsr.method.flow import DISFlow, FlowEstimator, RAFTFlow
from stablevsr.method.loading import DTYPES, load_scheduler
from stablevsr.method.model_folder import TINY, find_model
from stablevsr.method.networks import ModelParts
from stablevsr.method.pipeline import load_networks
from stablevsr.method.sampler import AT_ONCE, Sampler, decode_frames, to_uint8
from stablevsr.method.settings import Guidance, Precision, Sampling, Solver, Weights
from stablevsr.method.small_decoder import SmallDecoder
from stablevsr.runtime.background import BackgroundWriter
from stablevsr.runtime.io import write_text
from stablevsr.runtime.timing import StageTimer, peak_memory

#: The released networks' widths; anything else is diffusers' default (checked against their parameter counts).
_SHARED: dict[str, Any] = {
    "in_channels": 7,
    "block_out_channels": (256, 512, 512, 1024),
    "down_block_types": ("DownBlock2D", *("CrossAttnDownBlock2D",) * 3),
    "cross_attention_dim": 1024,
    "attention_head_dim": 8,
    "only_cross_attention": (True, True, True, False),
    "use_linear_projection": True,
}
UNET = {**_SHARED, "out_channels": 4, "up_block_types": (*("CrossAttnUpBlock2D",) * 3, "UpBlock2D")}
TCM = {**_SHARED, "conditioning_embedding_out_channels": (64, 128, 256)}
VAE: dict[str, Any] = {
    "block_out_channels": (128, 256, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 3,
    "up_block_types": ("UpDecoderBlock2D",) * 3,
    "latent_channels": 4,
    "layers_per_block": 2,
    "scaling_factor": 0.08333,
}
IDLE = "idle"  #: outside all stages: the device waits for the host
RANDOM = "random"  #: in place of a model: the full size, with random weights


@dataclass(frozen=True)
class Preset:
    """One way of sampling the same frames."""

    name: str
    precision: Precision
    batched: bool = True  #: all sequences and, in the UNet's first half, frames side by side; writing in the background
    channels_last: bool | None = None  #: None = as the pipeline has it: on a CPU
    scheduler: Solver = "ddpm"
    share_of_steps: float = 1.0  #: of the steps asked for
    guide_from: float = 0.0  #: share of the steps before the TCM acts
    weights: Weights = "full"
    #: Of the guidance, with random weights: as fast as a distilled one; its frames mean nothing.
    small_decoder: bool = False

    def sampling(self, steps: int) -> Sampling:
        """The sampling settings where ``steps`` are asked for."""
        return Sampling(
            steps=max(1, round(self.share_of_steps * steps)),
            scheduler=self.scheduler,
            precision=self.precision,
            guide_from=self.guide_from,
            weights=self.weights,
            guidance_decoder="small" if self.small_decoder else "vae",
        )


PRESETS = (
    Preset("published", "fp32", batched=False, channels_last=False),
    Preset("batched", "fp32", channels_last=False),
    Preset("channels-last", "fp32", channels_last=True),
    Preset("bf16", "bf16"),
    Preset("bf16-channels-first", "bf16", channels_last=False),
    Preset("bf16-channels-last", "bf16", channels_last=True),
    # The following change the numbers; the ablations measure what that costs in quality.
    Preset("half-guided", "bf16", guide_from=0.5),
    Preset("unipc", "bf16", scheduler="unipc", share_of_steps=0.2),
    Preset("fp8-weights", "bf16", weights="fp8"),
    Preset("small-decoder", "bf16", small_decoder=True),
    Preset("unipc-small-decoder", "bf16", scheduler="unipc", share_of_steps=0.2, small_decoder=True),
    Preset("unipc-half-guided", "bf16", scheduler="unipc", share_of_steps=0.2, guide_from=0.5),
)


@dataclass(frozen=True)
class Work:
    """The sequences that are sampled: LR frames of noise, since speed does not depend on what they show."""

    height: int
    width: int
    frames: int
    sequences: int
    steps: int


@dataclass(frozen=True)
class Result:
    """What one preset took."""

    preset: str
    seconds: float
    frame_steps_a_second: float
    seconds_a_frame: float
    speedup: float  #: over the first preset of the run
    psnr: float | None  #: dB between this output and the first preset's; None for it, and where a network is random
    stages: dict[str, float]  #: seconds
    peak_memory: int  #: bytes: of the GPU in this preset, or of the process so far


def bench(model: str, work: Work, device: str, names: list[str], out: Path | None) -> str:
    """Run presets one after another; returns the table and writes ``out`` (JSON) if given."""
    chosen = [preset for preset in PRESETS if preset.name in names]
    generator = torch.Generator().manual_seed(0)
    lr = torch.rand(work.sequences, work.frames, 3, work.height, work.width, generator=generator) * 2 - 1
    results: list[Result] = []
    first: Tensor | None = None
    for preset in chosen:
        result, images = _run(preset, model, work, lr, device, results[0] if results else None, first)
        results.append(result)
        first = images if first is None else first
    where = machine(device)
    if out is not None:
        content = {
            "machine": where, "model": model, "work": asdict(work),
            "presets": [asdict(result) for result in results],
        }  # fmt: skip
        write_text(out, json.dumps(content, indent=1) + "\n")
    return "\n".join([where, f"model {model}, {asdict(work)}", "", *_table(results)])


def _run(
    preset: Preset, model: str, work: Work, lr: Tensor, device: str, base: Result | None, expected: Tensor | None
) -> tuple[Result, Tensor]:
    networks = load(model, device, preset)
    on_cpu = networks.device.type == "cpu"
    if on_cpu if preset.channels_last is None else preset.channels_last:
        networks.channels_last()
    sampling = preset.sampling(work.steps)
    if preset.weights == "fp8":
        networks.pack()
    timer = StageTimer(networks.device)
    if networks.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(networks.device)
    at_once = AT_ONCE if preset.batched else 1
    sampler = Sampler(networks, sampling, Guidance(flow="dis"), _estimator(model, device), at_once, stage=timer.stage)
    sampler(lr[:1, :2], [torch.Generator()])  # warm up: the first calls choose kernels
    timer.read()
    began = time.perf_counter()
    images = _upscale(sampler, lr, preset.batched)
    stages = timer.read()
    seconds = time.perf_counter() - began
    stages[IDLE] = max(0.0, seconds - sum(stages.values()))
    result = Result(
        preset=preset.name,
        seconds=seconds,
        frame_steps_a_second=work.sequences * work.frames * sampling.steps / seconds,
        seconds_a_frame=seconds / (work.sequences * work.frames),
        speedup=base.seconds / seconds if base else 1.0,
        psnr=None if expected is None or preset.small_decoder else _psnr(images, expected),
        stages=stages,
        peak_memory=peak_memory(networks.device),
    )
    return result, images


def _upscale(sampler: Sampler, lr: Tensor, batched: bool) -> Tensor:
    """The x4 frames of all sequences, (frames, 3, 4h, 4w) in [0, 1] on the CPU, after writing them as PNG files."""
    images = []
    size = len(lr) if batched else 1
    with TemporaryDirectory() as folder, BackgroundWriter() as writing:
        for first in range(0, len(lr), size):
            some = lr[first : first + size]
            latents = sampler(some, [torch.Generator().manual_seed(first + i) for i in range(len(some))])
            for image in decode_frames(sampler.model, latents.flatten(0, 1), sampler.stage):
                images.append(image.cpu())
                with sampler.stage("IO"):
                    writing.do(write_frame, Path(folder) / f"{len(images)}.png", to_uint8(image))
                    if not batched:
                        writing.wait()
        with sampler.stage("IO"):
            writing.wait()
    return torch.stack(images)


def load(model: str, device: str, preset: Preset) -> ModelParts:
    """The networks that a preset samples with; weights are not packed yet."""
    if model == RANDOM:
        networks = random_model(device, preset.precision)
    else:
        networks = load_networks(find_model(model), device, preset.precision)
    if preset.small_decoder:
        small = SmallDecoder(width=networks.unet.config.block_out_channels[0] // 4)
        # torch's own `to`: diffusers' warns about layers to keep in float32 that this network does not have
        torch.nn.Module.to(small, networks.device, DTYPES[preset.precision])
        networks.guidance_decoder = small.eval()
    return networks


def _estimator(model: str, device: str) -> FlowEstimator:
    """The flow that goes with a model: RAFT (random weights do the same work) at full size, DIS for others."""
    return RAFTFlow(None, device) if model == RANDOM else DISFlow()


def random_model(device: str, precision: Precision) -> ModelParts:
    """The full-size networks with random weights: UNet 472.4 M, TCM 207.7 M, VAE 55.3 M parameters."""
    torch.manual_seed(0)
    target, dtype = torch.device(device), DTYPES[precision]
    with target:
        unet, module, vae = (network.to(dtype).eval().requires_grad_(False) for network in full_size())
    prompt = torch.zeros(1, 77, UNET["cross_attention_dim"], device=target, dtype=dtype)
    return ModelParts(unet, vae, module, load_scheduler(TINY / "scheduler").config, prompt, target)


def full_size() -> tuple[Any, Any, Any]:
    """(UNet, TCM, VAE) of the released widths, on the current default device."""
    from diffusers import AutoencoderKL, ControlNetModel, UNet2DConditionModel

    return UNet2DConditionModel(**UNET), ControlNetModel(**TCM), AutoencoderKL(**VAE)


def _psnr(images: Tensor, expected: Tensor) -> float:
    error = float((images - expected).double().square().mean())
    return float("inf") if error == 0 else -10 * torch.log10(torch.tensor(error, dtype=torch.float64)).item()


def machine(device: str) -> str:
    """The device in words, with torch's version."""
    if device.startswith("cuda"):
        return f"{torch.cuda.get_device_name(device)}, torch {torch.__version__}"
    return f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}"


def _table(results: list[Result]) -> list[str]:
    lines = []
    for r in results:
        against = "" if r is results[0] else f", {r.speedup:.2f}x the first"
        against += "" if r.psnr is None else f", PSNR to it {r.psnr:.1f} dB"
        lines.append(
            f"{r.preset}: {r.seconds:.1f} s, {r.seconds_a_frame:.2f} s a frame, {r.frame_steps_a_second:.2f} "
            f"frame-steps/s{against}, peak memory {r.peak_memory / 2**30:.2f} GiB"
        )
        lines += [f"  {stage:<12} {s:8.2f} s {s / r.seconds:6.1%}" for stage, s in sorted(r.stages.items())]
    return lines
