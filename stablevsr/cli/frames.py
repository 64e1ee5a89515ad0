"""Commands that need no study: ``upscale``, ``evaluate``, ``fetch``, ``bench``."""

from __future__ import annotations

import argparse
from dataclasses import fields
from pathlib import Path

from stablevsr.cli.options import Commands, command, names_in, shard_of
from stablevsr.method.settings import PRESETS, SMALLEST_TILE
from stablevsr.method.strategies import STRATEGIES
from stablevsr.runtime.devices import device_of
from stablevsr.runtime.errors import UserError, near_miss
from stablevsr.runtime.torch_settings import configure_torch


def add_upscale(commands: Commands) -> None:
    parser = command(commands, "upscale", "upscale a video file, a folder of frames, or a folder of such folders")
    parser.add_argument("input", type=Path, metavar="IN")
    parser.add_argument("output", type=Path, metavar="OUT")
    parser.add_argument("--model", default="claudiom4sir/StableVSR",
                        help="hub id, folder, 'tiny' (embedded), or a baseline such as basicvsr-reds4")  # fmt: skip
    parser.add_argument("--scale", type=float, default=4.0, metavar="S",
                        help="of the sides, above 1 and at most 16; 4 (default) is the method, below it the x4 result "
                        "is down-scaled (bicubic), above a second pass takes (S/4)^2 times as long as x4")  # fmt: skip
    parser.add_argument("--revision", help="commit, branch or tag of the hub model (default: the registry's commit)")
    parser.add_argument("--tcm", type=Path, help="folder of another TCM, or of a training's checkpoint that holds it")
    parser.add_argument("--adapt", type=int, default=0, metavar="STEPS",
                        help="first train the TCM for this many steps on the clip itself (default: 0)")  # fmt: skip
    parser.add_argument("--preset", default="exact", choices=list(PRESETS),
                        help="exact (default) and published give the same numbers, exact is faster on a CPU; "
                        "fast: 12 steps, bf16, a small decoder for the guidance if the model has one")  # fmt: skip
    parser.add_argument("--steps", type=int, help="denoising steps (default: the preset's, 50 or 12)")
    parser.add_argument("--strategy", default="bidirectional", choices=list(STRATEGIES),
                        help="visit order and guidance (default: bidirectional)")  # fmt: skip
    parser.add_argument("--flow", choices=["raft", "dis"], help="flow estimator (default: raft; dis for tiny)")
    parser.add_argument("--warp", choices=["published", "aligned"],
                        help="warp grid (default: published; aligned for tiny, which was trained with it)")  # fmt: skip
    parser.add_argument("--precision", choices=["fp32", "bf16", "fp16"], help="of the networks (default: the preset's)")
    parser.add_argument("--compile", action="store_true",
                        help="compile the networks first, which takes minutes: for long clips on a GPU")  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="of the noise (default: 0)")
    parser.add_argument("--window", type=int, metavar="FRAMES",
                        help="at least 4, taken together; 0: the whole clip (default: 0; baselines 100)")  # fmt: skip
    parser.add_argument("--tile", type=int, metavar="PIXELS",
                        help="side of the decoder's tiles in LR pixels, for GPUs with little memory "
                        "(default: whole frames, tiles only where memory runs out)")  # fmt: skip
    parser.add_argument("--device", default="auto", help="auto (cuda if there is one, default), cpu, cuda, cuda:1, ...")
    parser.set_defaults(run=_run_upscale, resumes=True)


def _run_upscale(arguments: argparse.Namespace) -> None:
    from stablevsr.upscale import UpscaleOptions, upscale

    options = {field.name: getattr(arguments, field.name) for field in fields(UpscaleOptions)}
    upscale(arguments.input, arguments.output, UpscaleOptions(**options))


def add_evaluate(commands: Commands) -> None:
    parser = command(commands, "evaluate", "score frames against ground truth (or LR frames), one CSV row a frame")
    reference = parser.add_mutually_exclusive_group(required=True)
    reference.add_argument("--gt", type=Path, metavar="DIR",
                           help="ground truth: DIR/sequence/frame.png, or DIR/frame.png of one sequence")  # fmt: skip
    reference.add_argument("--lr", type=Path, metavar="DIR",
                           help="LR frames instead, for lr_consistency, musiq, clipiqa, niqe")  # fmt: skip
    parser.add_argument("--sr", type=Path, required=True, metavar="DIR", help="results, of the same form and names")
    parser.add_argument("--metrics", default="psnr,ssim", help="comma-separated names (default: psnr,ssim)")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.csv",
                        help="the table; means and conventions are written to FILE.csv.json")  # fmt: skip
    parser.add_argument("--weights", choices=["require", "skip"], default="require",
                        help="a metric whose weights are missing: stop, or leave its column empty")  # fmt: skip
    parser.add_argument("--sequences", help="comma-separated: only these sequences")
    parser.add_argument("--shard", default="0/1", metavar="K/N", help="every N-th sequence from the K-th on")
    parser.add_argument("--cache", type=Path, help="folder for ground-truth flows and features shared by methods")
    parser.add_argument("--centre-only", action="store_true", help="only each sequence's centre frame (Vimeo-90K-T)")
    parser.add_argument("--device", default="auto", help="auto (default), cpu or cuda")
    parser.add_argument("--batch", type=int, default=8, help="frames at a time (default: 8)")
    parser.set_defaults(run=_run_evaluate)


def _run_evaluate(arguments: argparse.Namespace) -> None:
    from stablevsr.metrics.registry import resolve

    metrics = names_in(arguments.metrics)
    chosen = resolve(metrics)  # reports a misspelt name before the slow imports
    from stablevsr.metrics.evaluate import evaluate

    on_torch = any(metric.build for metric in chosen)
    # what looks for a GPU imports torch, which PSNR and SSIM do not need
    device = device_of(arguments.device) if arguments.device != "auto" or on_torch else "cpu"
    if arguments.batch < 1:
        raise UserError(f"--batch {arguments.batch} is too small: at least 1")
    sequences = names_in(arguments.sequences) if arguments.sequences else None
    index, count = shard_of(arguments.shard)
    reference = arguments.gt or arguments.lr
    if count > 1:
        from stablevsr.metrics.folders import sequence_names

        sequences = (sequences or sorted(sequence_names(reference)))[index::count]  # the shards of inference
    evaluate(
        reference, {arguments.out: arguments.sr}, metrics, weights=arguments.weights, sequences=sequences,
        cache=arguments.cache, device=device, batch=arguments.batch,
        centre_only=arguments.centre_only, against="gt" if arguments.gt else "lr",
    )  # fmt: skip


def add_fetch(commands: Commands) -> None:
    parser = command(commands, "fetch", "download datasets and weights by name, resumable and verified")
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--list", action="store_true", help="show every name with its size, licence and presence")
    parser.add_argument("--from", dest="source", type=Path, metavar="DIR", help="take files you already have, verified")
    parser.add_argument("--data", type=Path, default=Path("data"), help="where datasets go (default: data)")
    parser.set_defaults(run=_run_fetch, resumes=True)


def _run_fetch(arguments: argparse.Namespace) -> None:
    from stablevsr.data.downloads.fetch import fetch, listing

    if arguments.list:
        print(listing(arguments.data))
    elif not arguments.names:
        raise UserError("name what to fetch; `stablevsr fetch --list` shows the names")
    else:
        fetch(arguments.names, arguments.data, source=arguments.source)
        _renew_marks(arguments.names, arguments.data)


def _renew_marks(names: list[str], data: Path) -> None:
    """Tell the workflow that weights are there which it could not fetch before (rule ``data_fetch_optional``)."""
    for mark in (data / "fetched" / "optional" / name for name in names):
        if mark.exists() and mark.read_text(encoding="utf-8") != "fetched\n":
            mark.write_text("fetched\n", encoding="utf-8")


def add_bench(commands: Commands) -> None:
    parser = command(commands, "bench", "time the sampler")
    parser.add_argument("--model", default="tiny", help="hub id, folder, 'tiny', or 'random' (full size)")
    parser.add_argument("--size", default="48x48", metavar="WxH", help="LR frame (default: 48x48; REDS is 320x180)")
    parser.add_argument("--frames", type=int, default=4, help="of a sequence (default: 4)")
    parser.add_argument("--sequences", type=int, default=4, help="how many (default: 4)")
    parser.add_argument("--steps", type=int, default=4, help="denoising steps (default: 4)")
    parser.add_argument("--tile", type=int, metavar="PIXELS",
                        help="side of the decoder's tiles in LR pixels (default: whole frames)")  # fmt: skip
    parser.add_argument("--cases", default="published,batched,exact,bf16,fast",
                        help="comma-separated, or all (default: published,batched,exact,bf16,fast)")  # fmt: skip
    parser.add_argument("--device", default="auto", help="auto (default), cpu or cuda")
    parser.add_argument("--out", type=Path, metavar="FILE.json", help="also write the results to this file")
    parser.set_defaults(run=_run_bench)


def _run_bench(arguments: argparse.Namespace) -> None:
    for name in ("frames", "sequences", "steps"):
        if getattr(arguments, name) < 1:
            raise UserError(f"--{name} {getattr(arguments, name)} is too small: at least 1")
    if arguments.tile is not None and arguments.tile < SMALLEST_TILE:
        raise UserError(f"--tile {arguments.tile} is too small: at least {SMALLEST_TILE} LR pixels")
    width, _, height = arguments.size.partition("x")
    if not (width.isdecimal() and height.isdecimal() and min(int(width), int(height)) >= 8):
        raise UserError(f"--size {arguments.size!r} is not of the form WxH with at least 8 pixels a side: try 320x180")
    configure_torch()
    from stablevsr.bench.sampling import CASES, Work, bench, cases_on

    known, device = [case.name for case in CASES], device_of(arguments.device)
    names = cases_on(device) if arguments.cases == "all" else names_in(arguments.cases)
    for name in names:
        if name not in known:
            raise UserError(f"there is no case {name}{near_miss(name, known)}: known are {', '.join(known)}")
    work = Work(int(height), int(width), arguments.frames, arguments.sequences, arguments.steps, arguments.tile)
    print(bench(arguments.model, work, device, names, arguments.out))
