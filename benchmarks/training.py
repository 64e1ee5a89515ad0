"""Seconds and memory of a TCM's training step, by precision, with TF32, and with gradient checkpointing.

    python benchmarks/training.py --device cuda --model random --batch 8 --steps 50

The steps are those of the training loop, on noise instead of crops (speed does not depend on their content), with a
TCM made from the model's UNet. Every case starts from newly loaded networks.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor
from tqdm import tqdm

from stablevsr.bench.sampling import RANDOM, machine_text, random_model, write_results
from stablevsr.method import tcm
from stablevsr.method.flow import DISFlow, FlowEstimator, RAFTFlow
from stablevsr.method.model_folder import find_model
from stablevsr.method.pipeline import load_networks
from stablevsr.method.settings import Guidance, Precision, Training
from stablevsr.runtime.timing import peak_memory
from stablevsr.runtime.torch_settings import configure_torch
from stablevsr.training.loop import accelerator_for, optimizer_for, training_step
from stablevsr.training.task import LoopSettings
from stablevsr.training.tasks.tcm import TCMTask

WARM_UP = 2  #: steps that are not timed: the first ones choose kernels and make the optimiser's state


@dataclass(frozen=True)
class Case:
    """One way of computing a training step."""

    precision: Precision = "fp32"
    tf32: bool = False
    checkpointing: bool = False  #: activations are recomputed instead of kept (gradient checkpointing)


CASES = {
    "fp32": Case(),
    "bf16": Case("bf16"),
    "bf16+checkpointing": Case("bf16", checkpointing=True),
    "tf32": Case(tf32=True),  # not on a CPU
}


@dataclass(frozen=True)
class Result:
    """The measurements of one case."""

    case: str
    seconds_a_step: float
    peak_memory: int  #: bytes: of the GPU in this case, or of the process so far
    loss: float  #: of the last step; cases differ by rounding


def main(arguments: list[str] | None = None) -> None:
    """Run from the command line; see ``--help``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="tiny", help="hub id, folder, 'tiny' (default), or 'random' (full size)")
    parser.add_argument("--crop", type=int, default=256, help="pixels of a crop, a multiple of 32 (default: 256)")
    parser.add_argument("--batch", type=int, default=8, help="crops of a step (default: 8)")
    parser.add_argument("--steps", type=int, default=4, help="training steps that are timed (default: 4)")
    parser.add_argument("--device", default="cpu", help="cpu (default) or cuda")
    parser.add_argument("--out", type=Path, metavar="FILE.json", help="also write the figures there")
    chosen = parser.parse_args(arguments)
    if chosen.crop < 32 or chosen.crop % 32:
        parser.error(f"--crop {chosen.crop} is no multiple of 32: the networks halve a crop's latents three times")
    if min(chosen.batch, chosen.steps) < 1:
        parser.error("--batch and --steps must be at least 1")
    print(bench_training(**vars(chosen)))


def bench_training(model: str, crop: int, batch: int, steps: int, device: str, out: Path | None) -> str:
    """Time ``steps`` training steps of ``batch`` crops in every case; returns the table.

    The results so far are written to ``out`` (JSON) after each case.
    """
    results: list[Result] = []
    where, work = machine_text(device), {"crop": crop, "batch": batch, "steps": steps}
    for name in (name for name, case in CASES.items() if device != "cpu" or not case.tf32):
        results.append(_run(name, model, crop, batch, steps, device))
        write_results(out, where, model, work, results)
    lines = [
        f"{r.case:<20} {1 / r.seconds_a_step:8.3f} steps/s, peak memory {r.peak_memory / 2**30:6.2f} GiB, "
        f"loss {r.loss:.4f}"
        for r in results
    ]
    return "\n".join([where, f"model {model}, {work}", "", *lines])


def _run(name: str, model: str, crop: int, batch: int, steps: int, device: str) -> Result:
    case = CASES[name]
    configure_torch(case.tf32)
    accelerator = accelerator_for(case.precision, device)
    if accelerator.device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(accelerator.device)
    settings = LoopSettings(steps=WARM_UP + steps, batch=batch, precision=case.precision, warmup_steps=0)
    task = _task(case, model, accelerator)
    optimizer = accelerator.prepare(optimizer_for(task, settings))
    loss, began = 0.0, 0.0
    for step in tqdm(range(settings.steps), desc=name, unit="step", mininterval=2):
        if step == WARM_UP:
            began = _now(accelerator)
        loss = training_step(task, _window(crop, batch, step, accelerator), settings, step, accelerator, optimizer)
    return Result(name, (_now(accelerator) - began) / steps, peak_memory(accelerator.device), loss)


def _task(case: Case, model: str, accelerator: Accelerator) -> TCMTask:
    device = str(accelerator.device)
    flow: FlowEstimator = DISFlow()
    if model == RANDOM:
        networks, flow = random_model(device, "fp32"), RAFTFlow(None, device)
    else:
        networks = load_networks(find_model(model), device, with_tcm=False)
    torch.manual_seed(0)
    module = tcm.from_unet(networks.unet).to(accelerator.device)
    networks.freeze_in(case.precision)
    networks.tcm = None
    if case.checkpointing:
        module.enable_gradient_checkpointing()
        networks.unet.enable_gradient_checkpointing()
    return TCMTask(module, networks, Training(), Guidance(flow="dis"), flow, data=None)  # type: ignore[arg-type]


def _window(crop: int, batch: int, step: int, accelerator: Accelerator) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(step)
    shapes = {"gt": (batch, 3, 3, crop, crop), "lq": (batch, 3, 3, crop // 4, crop // 4)}
    return {key: torch.rand(shape, generator=generator).to(accelerator.device) for key, shape in shapes.items()}


def _now(accelerator: Accelerator) -> float:
    if accelerator.device.type == "cuda":
        torch.cuda.synchronize(accelerator.device)
    return time.perf_counter()


if __name__ == "__main__":
    main()
