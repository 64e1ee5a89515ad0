"""``stablevsr bench``: the sampling speed of this machine by stage, and how much faster cases change the frames.

Every case samples the same frames from the same noise, from LR frames in memory to PNG files. ``published`` does the
published work in the published order: float32, one frame of one sequence after another. The others are compared with
the first case by speed and by the PSNR between the two outputs.
"""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from stablevsr.bench.int8 import has_int8, to_int8
from stablevsr.data.frames import write_frame
from stablevsr.method.compiled import check_compiler
from stablevsr.method.dtypes import DTYPES
from stablevsr.method.flow import DISFlow, RAFTFlow
from stablevsr.method.loading import load_scheduler
from stablevsr.method.model_folder import TINY, find_model
from stablevsr.method.networks import ModelParts
from stablevsr.method.pipeline import load_networks
from stablevsr.method.sampler import AT_ONCE, Sampler, decode_frames, to_uint8
from stablevsr.method.settings import PRESETS, Guidance, Precision, Sampling
from stablevsr.method.small_decoder import SmallDecoder
from stablevsr.metrics.builtin.psnr import decibels
from stablevsr.runtime.background import BackgroundWriter
from stablevsr.runtime.io import write_text
from stablevsr.runtime.timing import StageTimer, peak_memory
from stablevsr.runtime.torch_settings import configure_torch

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
IDLE = "idle"  #: time outside all stages, a lower bound of the device's idle time
RANDOM = "random"  #: the model of full size with random weights


@dataclass(frozen=True)
class Case:
    """One way of sampling the same frames."""

    name: str
    settings: Sampling  #: the steps apart; a small decoder has random weights: only its speed means something
    #: All sequences (and several frames in the UNet's first half) in one batch; PNGs are written in the background.
    batched: bool = True
    channels_last: bool | None = None  #: None = on a CPU, as in the pipeline
    share: float = 1.0  #: of the requested steps
    int8: bool = False  #: UNet and TCM in 8-bit arithmetic

    def runs_on(self, device: str) -> bool:
        """Whether ``all`` includes it: not if the device cannot do it, or if a case before it is the same there."""
        if self.int8:
            return device == "cpu" and has_int8()
        if device == "cpu":
            return not (self.channels_last or self.settings.compile or self.settings.tf32)
        return self.channels_last is not False or not self.batched

    def sampling(self, work: Work) -> Sampling:
        """The sampling settings for a request of ``work.steps``."""
        return self.settings.model_copy(update={"steps": max(1, round(self.share * work.steps)), "tile": work.tile})


FP32, BF16, FAST = (Sampling(**settings) for settings in (PRESETS["exact"], {"precision": "bf16"}, PRESETS["fast"]))
#: The most wanted first, because a rented GPU may be gone before the end.
CASES = (
    Case("published", FP32, batched=False, channels_last=False),
    Case("batched", FP32, channels_last=False),
    Case("exact", FP32),
    # The following change the numbers; the ablations measure their quality.
    Case("tf32", Sampling(tf32=True)),
    Case("bf16", BF16),
    Case("fast", FAST, share=FAST.steps / FP32.steps),
    Case("small-decoder", Sampling(precision="bf16", guidance_decoder="small")),
    Case("half-guided", Sampling(precision="bf16", guide_from=0.5)),
    Case("unipc", Sampling(precision="bf16", scheduler="unipc"), share=0.2),
    Case("unipc-small-decoder", Sampling(precision="bf16", scheduler="unipc", guidance_decoder="small"), share=0.2),
    Case("unipc-half-guided", Sampling(precision="bf16", scheduler="unipc", guide_from=0.5), share=0.2),
    Case("fp8-weights", Sampling(precision="bf16", weights="fp8")),
    Case("int8", FP32, int8=True),
    Case("bf16-channels-first", BF16, channels_last=False),
    Case("bf16-channels-last", BF16, channels_last=True),
    Case("channels-last", FP32, channels_last=True),
    # Last, because compiling takes minutes.
    Case("bf16-compiled", Sampling(precision="bf16", compile=True)),
    Case("exact-compiled", Sampling(compile=True)),
)


@dataclass(frozen=True)
class Work:
    """The sampled sequences: LR frames of noise, because speed does not depend on their content."""

    height: int
    width: int
    frames: int
    sequences: int
    steps: int
    tile: int | None = None  #: side of the decoder's tiles in LR pixels; None = whole frames


@dataclass
class Result:
    """The measurements of one case."""

    case: str
    seconds: float
    frame_steps_a_second: float
    seconds_a_frame: float
    stages: dict[str, float]  #: seconds
    peak_memory: int  #: bytes: of the GPU in this case, or of the process so far
    speedup: float = 1.0  #: over the first case of the run
    psnr: float | None = None  #: dB against the first case's frames; None for it, and where a network is random


def cases_on(device: str) -> list[str]:
    """The names of the cases that ``--cases all`` runs on a device."""
    return [case.name for case in CASES if case.runs_on(device)]


def bench(model: str, work: Work, device: str, names: list[str], out: Path | None) -> str:
    """Run cases one after another; returns the table, and writes ``out`` (JSON), if given, after each of them."""
    generator = torch.Generator().manual_seed(0)
    lr = torch.rand(work.sequences, work.frames, 3, work.height, work.width, generator=generator) * 2 - 1
    results: list[Result] = []
    where = machine_text(device)
    for case in (case for case in CASES if case.name in names):
        result, images = _run(case, model, work, lr, device)
        if not results:
            first = images.double().numpy()
        else:
            result.speedup = results[0].seconds / result.seconds
            if case.settings.guidance_decoder == "vae":
                result.psnr = decibels(first, images.double().numpy(), 1.0)
        results.append(result)
        write_results(out, where, model, asdict(work), results)
    return "\n".join([where, f"model {model}, {asdict(work)}", "", *_table(results)])


def write_results(out: Path | None, machine: str, model: str, work: dict[str, Any], results: Sequence[Any]) -> None:
    """Write the results (data classes) of cases to ``out`` as JSON, unless it is None."""
    if out is not None:
        cases = [asdict(result) for result in results]
        content = {"machine": machine, "model": model, "work": work, "cases": cases}
        write_text(out, json.dumps(content, indent=1) + "\n")


def _run(case: Case, model: str, work: Work, lr: Tensor, device: str) -> tuple[Result, Tensor]:
    networks, sampling = load(model, device, case), case.sampling(work)
    configure_torch(sampling.tf32)
    if sampling.compile:
        check_compiler()
    networks.prepare(sampling, device == "cpu" if case.channels_last is None else case.channels_last)
    if case.int8:
        to_int8(networks.unet)
        to_int8(networks.tcm)
    timer = StageTimer(networks.device)
    at_once = AT_ONCE if case.batched else 1
    flow = RAFTFlow(None, device) if model == RANDOM else DISFlow()  # random weights take as long as trained ones
    sampler = Sampler(networks, sampling, Guidance(flow="dis"), flow, at_once, stage=timer.stage)
    short = sampling.model_copy(update={"steps": min(2, sampling.steps)})
    warm_up = Sampler(networks, short, Guidance(flow="dis"), flow, at_once)
    warm_up(lr[:1, :2], [torch.Generator()])  # the first calls choose kernels
    if sampling.compile:  # every shape before the clock starts
        _upscale(sampler, lr, case.batched)
    timer.read()
    if networks.device.type == "cuda":  # not before the warm-up, in which cuDNN tries kernels that need much memory
        torch.cuda.reset_peak_memory_stats(networks.device)
    began = time.perf_counter()
    images = _upscale(sampler, lr, case.batched)
    stages = timer.read()
    seconds = time.perf_counter() - began
    stages[IDLE] = max(0.0, seconds - sum(stages.values()))
    frames = work.sequences * work.frames
    speed = frames * sampling.steps / seconds
    return Result(case.name, seconds, speed, seconds / frames, stages, peak_memory(networks.device)), images


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


def load(model: str, device: str, case: Case) -> ModelParts:
    """The networks of a case; weights are not packed yet."""
    precision = case.settings.precision
    is_random = model == RANDOM
    networks = random_model(device, precision) if is_random else load_networks(find_model(model), device, precision)
    if case.settings.guidance_decoder == "small":
        small = SmallDecoder(width=networks.unet.config.block_out_channels[0] // 2)
        torch.nn.Module.to(small, networks.device, DTYPES[precision])
        networks.guidance_decoder = small.eval()
    return networks


def random_model(device: str, precision: Precision) -> ModelParts:
    """The full-size networks with random weights: UNet 472.4 M, TCM 207.7 M, VAE 55.3 M parameters."""
    torch.manual_seed(0)
    target, dtype = torch.device(device), DTYPES[precision]
    with target:
        networks = full_size()
    for network in networks:
        # torch's `to`: diffusers' would warn about layers to keep in float32 that these networks do not have
        torch.nn.Module.to(network, dtype).eval().requires_grad_(False)
    unet, module, vae = networks
    prompt = torch.zeros(1, 77, UNET["cross_attention_dim"], device=target, dtype=dtype)
    return ModelParts(unet, vae, module, load_scheduler(TINY / "scheduler").config, prompt, target)


def full_size() -> tuple[Any, Any, Any]:
    """(UNet, TCM, VAE) of the released widths, on the current default device."""
    from diffusers import AutoencoderKL, ControlNetModel, UNet2DConditionModel

    return UNet2DConditionModel(**UNET), ControlNetModel(**TCM), AutoencoderKL(**VAE)


def machine_text(device: str) -> str:
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
            f"{r.case}: {r.seconds:.1f} s, {r.seconds_a_frame:.2f} s a frame, {r.frame_steps_a_second:.2f} "
            f"frame-steps/s{against}, peak memory {r.peak_memory / 2**30:.2f} GiB"
        )
        lines += [f"  {stage:<12} {s:8.2f} s {s / r.seconds:6.1%}" for stage, s in sorted(r.stages.items())]
    return lines
