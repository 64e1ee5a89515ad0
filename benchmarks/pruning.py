"""What pruning saves: parameters, FLOPs and time of a frame-step in the UNet and the TCM, by the share removed.

    python benchmarks/pruning.py --model tiny --size 64x64
    python benchmarks/pruning.py --model random --size 320x180 --device cuda

``--device meta`` counts parameters and FLOPs without computing. On a CPU, times are processor time, which depends less
on other programs. The weights are not trained after pruning, which changes no time.
"""

from __future__ import annotations

import argparse
import time

import torch
from flops import network_flops
from torch.utils.benchmark import Timer

from stablevsr.bench.int8 import to_int8
from stablevsr.bench.sampling import RANDOM, machine_text, random_model
from stablevsr.data.degradation import SCALE
from stablevsr.method import tcm, unet
from stablevsr.method.model_folder import find_model
from stablevsr.method.networks import ModelParts
from stablevsr.method.pipeline import load_networks
from stablevsr.method.settings import Precision
from stablevsr.training.pruning import prune

SHARES = (0.0, 0.25, 0.5)


def pruned_row(model: str, device: str, height: int, width: int, arithmetic: str, share: float) -> str:
    """A row of the table, for one frame of (height, width) LR pixels."""
    precision: Precision = "bf16" if arithmetic == "bf16" else "fp32"
    networks = (
        random_model(device, precision) if model == RANDOM else load_networks(find_model(model), device, precision)
    )
    for network in (networks.unet, networks.tcm):
        prune(network, share)
    millions = [sum(p.numel() for p in network.parameters()) / 1e6 for network in (networks.unet, networks.tcm)]
    flops = network_flops(networks, height, width)
    cells = [f"{share:.0%}", *(f"{count:.1f} M" for count in millions)]
    cells += [f"{flops[name] / 1e9:,.1f} GFLOP" for name in ("UNet", "TCM")]
    if networks.device.type == "cpu":
        networks.channels_last()
    if arithmetic == "int8":
        to_int8(networks.unet)
        to_int8(networks.tcm)
    if device != "meta":
        cells.append(f"{1000 * fastest_step(networks, height, width):.1f} ms")
    return "  ".join(f"{cell:>16}" for cell in cells)


def fastest_step(networks: ModelParts, height: int, width: int) -> float:
    """Seconds of the fastest run of both networks on one frame, as the sampler runs them."""
    to = {"device": networks.device, "dtype": networks.unet.dtype}
    latent = torch.randn(1, int(networks.unet.config.in_channels), height, width, **to)
    image, prompt = torch.randn(1, 3, SCALE * height, SCALE * width, **to), networks.prompt.to(**to)

    @torch.no_grad()
    def step() -> None:
        residuals = tcm.residuals(networks.tcm, latent, 500, prompt, image)
        unet.decode(networks.unet, unet.encode(networks.unet, latent, 500, prompt), prompt, residuals)

    clock = {"timer": time.process_time} if networks.device.type == "cpu" else {}
    timer = Timer("step()", globals={"step": step}, num_threads=torch.get_num_threads(), **clock)
    return min(timer.blocked_autorange(min_run_time=5).times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="tiny", help="hub id, folder, tiny, or random: full size, random weights")
    parser.add_argument("--size", default="64x64", help="width and height of LR frames")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or meta")
    parser.add_argument("--arithmetic", default="fp32", choices=("fp32", "bf16", "int8"))
    chosen = parser.parse_args()
    width, height = map(int, chosen.size.split("x"))
    print(f"{chosen.model}, {chosen.size}, {chosen.arithmetic}, {machine_text(chosen.device)}")
    print("  ".join(f"{head:>16}" for head in ("removed", "UNet", "TCM", "UNet", "TCM", "frame-step")))
    for share in SHARES:
        print(pruned_row(chosen.model, chosen.device, height, width, chosen.arithmetic, share), flush=True)


if __name__ == "__main__":
    main()
