"""FLOPs of the networks, this device's peak rates, and the share of them that the cases of a bench reach.

    stablevsr bench --device cuda --model random --size 320x180 --cases all --out reds.json
    python benchmarks/flops.py reds.json --device cuda

Run it on the machine of the bench.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.benchmark import Timer
from torch.utils.flop_counter import FlopCounterMode

from stablevsr.bench.sampling import CASES, Case, Work, load
from stablevsr.data.degradation import SCALE
from stablevsr.method.dtypes import DTYPES
from stablevsr.method.networks import ModelParts
from stablevsr.method.visits import guided_steps
from stablevsr.runtime.torch_settings import configure_torch


def network_flops(model: ModelParts, height: int, width: int) -> dict[str, float]:
    """Floating-point operations of one frame of (height, width) LR pixels in each network, a multiply-add being two.

    They are counted from shapes, without computing. Keys: ``UNet``, ``TCM``, ``VAE decoder``, and ``small decoder``
    where the guidance has one.
    """
    channels = int(model.unet.config.out_channels)
    found = {}
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        dtype, decoder = next(model.unet.parameters()).dtype, next(model.vae.parameters()).dtype
        latent = torch.empty(1, channels, height, width, device=model.device, dtype=decoder)
        sample = torch.empty(1, channels + 3, height, width, device=model.device, dtype=dtype)
        image = torch.empty(1, 3, SCALE * height, SCALE * width, device=model.device, dtype=dtype)
        prompt = model.prompt.to(dtype)
        found["UNet"] = _count(lambda: model.unet(sample, 500, encoder_hidden_states=prompt))
        found["VAE decoder"] = _count(lambda: model.vae.decode(latent))
        if model.guidance_decoder is not None:
            found["small decoder"] = _count(lambda: model.decode_guidance(latent, sample[:, channels:].to(decoder)))
        if model.tcm is not None:
            found["TCM"] = _count(lambda: model.tcm(sample, 500, encoder_hidden_states=prompt, controlnet_cond=image))
    return found


def _count(run: Callable[[], object]) -> float:
    # attention as plain products, which the counter supports on every device; no memory is used
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        run()
    return float(counter.get_total_flops())


def matrix_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Floating-point operations a second of a large matrix product, the highest rate that networks can reach.

    float32 on a GPU is measured in TF32 if torch is set so.
    """
    side = 8192 if device.type == "cuda" else 1024
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    return 2 * side**3 / _fastest(lambda: a @ b)


def copy_rate(device: torch.device) -> float:
    """Bytes a second read and written by a large copy."""
    source = torch.empty(2**28 if device.type == "cuda" else 2**26, device=device, dtype=torch.uint8)
    target = torch.empty_like(source)
    return 2 * source.nbytes / _fastest(lambda: target.copy_(source))


def _fastest(run: Callable[[], object]) -> float:
    """Seconds of the fastest call."""
    timer = Timer("run()", globals={"run": run}, num_threads=torch.get_num_threads())
    return min(timer.blocked_autorange().times)


def network_calls(work: Work, case: Case) -> dict[str, int]:
    """How many frames each network processes, with the keys of :func:`network_flops`."""
    sampling = case.sampling(work)
    guided = (work.frames - 1) * len(guided_steps(sampling))
    by_vae = 0 if sampling.guidance_decoder == "small" else guided
    each = {
        "UNet": work.frames * sampling.steps,
        "TCM": guided,
        "VAE decoder": by_vae + work.frames,
        "small decoder": guided - by_vae,
    }
    return {network: work.sequences * count for network, count in each.items() if count}


def compare(bench: Path, device: str) -> str:
    """The table for a file that ``stablevsr bench --out`` wrote."""
    content = json.loads(bench.read_text(encoding="utf-8"))
    work, seconds = Work(**content["work"]), {row["case"]: row["seconds"] for row in content["cases"]}
    target = torch.device(device)
    lines = [f"a large copy moves {copy_rate(target) / 1e9:.0f} GB/s"]
    for case in (case for case in CASES if case.name in seconds):
        configure_torch(case.settings.tf32)
        flops = network_flops(load(content["model"], device, case), work.height, work.width)
        total = sum(flops[name] * count for name, count in network_calls(work, case).items())
        rate, ceiling = (
            total / seconds[case.name] / 1e12,
            matrix_rate(target, DTYPES[case.settings.precision]) / 1e12,
        )
        counted = ", ".join(f"{name} {count / 1e12:.3g}" for name, count in flops.items())
        lines.append(f"{case.name}: {rate:.3g} TFLOP/s, {rate / ceiling:.0%} of a large matrix product's {ceiling:.3g}")
        lines.append(f"  TFLOP a frame: {counted}")
    return "\n".join(lines)


def main() -> None:
    """Run from the command line; see ``--help``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bench", type=Path, metavar="FILE.json", help="what `stablevsr bench --out` wrote")
    parser.add_argument("--device", default="cpu", help="cpu (default) or cuda")
    arguments = parser.parse_args()
    print(compare(arguments.bench, arguments.device))


if __name__ == "__main__":
    main()
