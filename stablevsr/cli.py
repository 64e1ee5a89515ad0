"""``stablevsr ...``: every command that a rule runs can be typed by hand.

Each command has a function that imports what it needs when it runs, so ``--help`` and a usage error answer at once.
Exit codes: 0 done, 1 failed (one plain sentence; the traceback only with ``--debug``), 2 usage.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from stablevsr import __version__
from stablevsr.errors import UserError


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    parser = build_parser()
    arguments = parser.parse_args(argv)
    if not hasattr(arguments, "run"):
        parser.print_help()
        return 2
    try:
        arguments.run(arguments)
    except KeyboardInterrupt:
        print("interrupted; the same command goes on where it stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return 1
    except (UserError, OSError) as error:
        if arguments.debug:
            raise
        print(f"stablevsr: {_sentence(error)}", file=sys.stderr)
        return 1
    return 0


def _sentence(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        where = f" ({error.filename})" if error.filename else ""
        return f"{error.strerror.lower()}{where}"
    return str(error)


def build_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    parser = argparse.ArgumentParser(
        prog="stablevsr",
        description="Reproduce and dissect StableVSR: diffusion video super-resolution (x4), consistent in time.",
        epilog="The whole study: `make study`, or `snakemake --cores all --resources gpu=1` in the repository.",
    )
    parser.add_argument("--version", action="version", version=f"stablevsr {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    for add in (
        _add_upscale,
        _add_evaluate,
        _add_fetch,
        _add_data,
        _add_train,
        _add_infer,
        _add_report,
        _add_plan,
        _add_doctor,
        _add_clean,
    ):
        add(commands)
    return parser


def _command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], name: str, text: str
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


def _study_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--study", default="mini", help="name of a file in workflow/studies (default: mini)")


# --- upscale ----------------------------------------------------------------------------------------------------------


def _add_upscale(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _command(commands, "upscale", "upscale a video file, a folder of frames, or a folder of such folders, x4")
    parser.add_argument("input", type=Path, metavar="IN")
    parser.add_argument("output", type=Path, metavar="OUT")
    parser.add_argument("--model", default="claudiom4sir/StableVSR", help="hub id, folder, or 'tiny' (embedded)")
    parser.add_argument("--tcm", type=Path, help="folder of another TCM")
    parser.add_argument("--steps", type=int, default=50, help="denoising steps (default: 50)")
    parser.add_argument(
        "--strategy", default="bidirectional",
        choices=["single_frame", "auto_regressive", "unidirectional", "bidirectional"],
    )  # fmt: skip
    parser.add_argument("--flow", choices=["raft", "dis"], help="motion estimator (default: raft; dis for tiny)")
    parser.add_argument("--precision", default="fp32", choices=["fp32", "bf16", "fp16"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--window", type=int, default=0, help="frames sampled together; 0 = the whole clip (exact)")
    parser.add_argument("--device", help="cpu, cuda, cuda:1, ... (default: cuda if there is one)")
    parser.set_defaults(run=_run_upscale)


def _run_upscale(arguments: argparse.Namespace) -> None:
    from stablevsr.upscale import UpscaleOptions, upscale

    names = ("model", "tcm", "steps", "strategy", "flow", "precision", "seed", "window", "device")
    upscale(arguments.input, arguments.output, UpscaleOptions(**{name: getattr(arguments, name) for name in names}))


# --- evaluate ---------------------------------------------------------------------------------------------------------


def _add_evaluate(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _command(commands, "evaluate", "score frames against ground truth, one CSV row a frame")
    parser.add_argument("--gt", type=Path, required=True, metavar="DIR", help="ground truth: DIR/sequence/frame.png")
    parser.add_argument("--sr", type=Path, required=True, metavar="DIR", help="results, the same names")
    parser.add_argument("--metrics", default="psnr,ssim", help="comma-separated names (default: psnr,ssim)")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.csv")
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

    metrics = [name.strip() for name in arguments.metrics.split(",") if name.strip()]
    resolve(metrics)  # a misspelt name is said before the heavy imports
    from stablevsr.metrics.evaluate import evaluate

    sequences = arguments.sequences.split(",") if arguments.sequences else None
    index, count = _shard(arguments.shard)
    if count > 1:
        if not arguments.gt.is_dir():
            raise UserError(f"there is no folder {arguments.gt}")
        known = sequences or sorted(p.name for p in arguments.gt.iterdir() if p.is_dir())
        sequences = known[index::count]
    evaluate(
        arguments.gt, arguments.sr, metrics, arguments.out, weights=arguments.weights, sequences=sequences,
        cache=arguments.cache, device=device_of(arguments.device), batch=arguments.batch,
        centre_only=arguments.centre_only,
    )  # fmt: skip


def _shard(text: str) -> tuple[int, int]:
    index, _, count = text.partition("/")
    if not (index.isdigit() and count.isdigit() and int(index) < int(count)):
        raise UserError(f"--shard {text!r} is not of the form K/N with K below N")
    return int(index), int(count)


# --- fetch, data ------------------------------------------------------------------------------------------------------


def _add_fetch(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _command(commands, "fetch", "download datasets and weights by name, resumable and verified")
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--list", action="store_true", help="show every name with its size, licence and presence")
    parser.add_argument("--from", dest="source", type=Path, metavar="DIR", help="take files you already have, verified")
    parser.add_argument("--data", type=Path, default=Path("data"), help="where datasets go (default: data)")
    parser.set_defaults(run=_run_fetch)


def _run_fetch(arguments: argparse.Namespace) -> None:
    from stablevsr.data.fetch import fetch, listing

    if arguments.list:
        print(listing(arguments.data))
    elif not arguments.names:
        raise UserError("name what to fetch; `stablevsr fetch --list` shows the names")
    else:
        fetch(arguments.names, arguments.data, source=arguments.source)


def _add_data(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _command(commands, "data", "make the mini data, or get a study's datasets ready")
    kinds = parser.add_subparsers(title="what", metavar="WHAT", required=True)
    mini = _command(kinds, "mini", "write the mini data in the layouts of REDS and Vimeo-90K")
    mini.add_argument("--out", type=Path, default=Path("data/mini"))
    mini.set_defaults(run=_run_data_mini)
    prepare = _command(kinds, "prepare", "link a study's test set into the plain layout, low-resolution frames made")
    _study_options(prepare)
    prepare.add_argument("--dataset", required=True)
    prepare.set_defaults(run=_run_data_prepare)
    train = _command(kinds, "prepare-training", "check a study's training set and make its low-resolution frames")
    _study_options(train)
    train.add_argument("--dataset", required=True)
    train.set_defaults(run=_run_data_training)


def _run_data_mini(arguments: argparse.Namespace) -> None:
    from stablevsr.data.mini import build
    from stablevsr.locks import sole_writer

    with sole_writer(arguments.out):
        build(arguments.out)


def _run_data_prepare(arguments: argparse.Namespace) -> None:
    from stablevsr.data.prepare import link_dataset, open_dataset
    from stablevsr.locks import sole_writer
    from stablevsr.study.paths import Paths
    from stablevsr.study.resolve import load_study

    study = load_study(arguments.study)
    target = Paths(study).dataset(arguments.dataset)
    with sole_writer(target):
        link_dataset(open_dataset(study.spec.datasets[arguments.dataset]), target)


def _run_data_training(arguments: argparse.Namespace) -> None:
    import json

    from stablevsr.data.frames import write_text
    from stablevsr.data.prepare import open_dataset
    from stablevsr.study.paths import Paths
    from stablevsr.study.resolve import load_study

    study = load_study(arguments.study)
    spec = study.spec.training_datasets[arguments.dataset]
    found = {sequence.name: len(sequence.gt) for sequence in open_dataset(spec)}
    write_text(Paths(study).training_data(spec), json.dumps(found, indent=1) + "\n")


# --- train ------------------------------------------------------------------------------------------------------------


def _add_train(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _command(commands, "train", "train a TCM of a study, or the tiny base model")
    kinds = parser.add_subparsers(title="what", metavar="WHAT", required=True)
    for name, text, run in (
        ("tcm", "train one TCM of a study", _run_train_tcm),
        ("pool", "freeze the samples that the TCM trainings of a small study share", _run_train_pool),
    ):
        command = _command(kinds, name, text)
        _study_options(command)
        command.add_argument("--training", required=True, help="a method's name, or a training's digest")
        command.set_defaults(run=run)
    base = _command(kinds, "base", "make the tiny base model (VAE and UNet) from the mini data: hours on two cores")
    base.add_argument("--data", type=Path, default=Path("data/mini/REDS"), help="a set in the layout of REDS")
    base.add_argument("--out", type=Path, required=True)
    base.add_argument("--state", type=Path, default=Path("work/base_state"), help="resume states")
    base.add_argument("--vae-steps", type=int, default=9000)
    base.add_argument("--unet-steps", type=int, default=5500)
    base.add_argument("--decoder-steps", type=int, default=3000)
    base.set_defaults(run=_run_train_base)


def _run_train_tcm(arguments: argparse.Namespace) -> None:
    from stablevsr.study.paths import Paths
    from stablevsr.study.resolve import load_study

    study = load_study(arguments.study)
    run = study.training(arguments.training)
    paths = Paths(study)
    set_threads()
    from stablevsr.training.run import train_tcm

    train_tcm(run, paths.checkpoint(run.digest), paths.state(run.digest), paths.pools, device_of(study.spec.device))


def _run_train_pool(arguments: argparse.Namespace) -> None:
    from stablevsr.study.paths import Paths
    from stablevsr.study.resolve import load_study

    study = load_study(arguments.study)
    run = study.training(arguments.training)
    set_threads()
    from stablevsr.training.run import make_pool

    make_pool(run, Paths(study).pools, device_of(study.spec.device))


def _run_train_base(arguments: argparse.Namespace) -> None:
    from stablevsr.training.base_model import make_base_model
    from stablevsr.training.base_quality import measure

    make_base_model(
        arguments.data,
        arguments.out,
        arguments.state,
        arguments.vae_steps,
        arguments.unet_steps,
        arguments.decoder_steps,
    )
    print(measure(arguments.out, arguments.data, arguments.out), end="")


# --- infer ------------------------------------------------------------------------------------------------------------


def _add_infer(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _command(commands, "infer", "make the frames of one method on one shard of a dataset")
    _study_options(parser)
    parser.add_argument("--method", required=True, help="a method's name or digest")
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--shard", default="0/1", metavar="K/N")
    parser.set_defaults(run=_run_infer)


def _run_infer(arguments: argparse.Namespace) -> None:
    from stablevsr.study.paths import Paths
    from stablevsr.study.resolve import MODELS_OWN, load_study

    study = load_study(arguments.study)
    method = study.find(arguments.method)
    paths = Paths(study)
    index, count = _shard(arguments.shard)
    set_threads()
    from stablevsr.inference import Shard, infer

    given = None if method.checkpoint == MODELS_OWN else method.checkpoint
    tcm = paths.checkpoint(method.training.digest) if method.training else given
    infer(
        method,
        Shard(arguments.dataset, paths.dataset(arguments.dataset) / "lr", index, count),
        arguments.seed,
        paths.frames(arguments.dataset, method.digest, arguments.seed),
        paths.manifest(arguments.dataset, method.digest, arguments.seed, index),
        model=study.spec.model,
        tcm=tcm,
        device=device_of(study.spec.device),
        batch=study.spec.batch,
    )


def device_of(wanted: str) -> str:
    """cpu or cuda for ``auto``; anything else as it is."""
    if wanted != "auto":
        return wanted
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def set_threads() -> None:
    """Use the threads that Snakemake granted (it sets OMP_NUM_THREADS), otherwise all cores."""
    import torch

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1))


# --- report, plan, doctor, clean --------------------------------------------------------------------------------------


def _add_report(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _command(commands, "report", "render a study's tables, figures and page from its results")
    _study_options(parser)
    parser.add_argument("--part", choices=["scores", "tables", "figures", "page"],
                        help="only this part (default: all, in this order)")  # fmt: skip
    parser.add_argument("--method", help="with --part scores: only this method's table of scores")
    parser.add_argument("--dataset", help="with --part scores: only this dataset")
    parser.set_defaults(run=_run_report)


def _run_report(arguments: argparse.Namespace) -> None:
    from stablevsr.study.paths import Paths
    from stablevsr.study.resolve import load_study

    study = load_study(arguments.study)
    paths = Paths(study)
    part = arguments.part
    if part in (None, "scores"):
        from stablevsr.study.scores import merge_scores

        for method in [study.find(arguments.method)] if arguments.method else study.methods.values():
            for dataset in [arguments.dataset] if arguments.dataset else method.datasets:
                merge_scores(study, paths, method, dataset)
    if part in (None, "tables"):
        from stablevsr.report import provenance, tables

        tables.render(study, paths)
        provenance.write(study, paths)
    if part in (None, "figures"):
        from stablevsr.report import figures

        figures.render(study, paths)
    if part in (None, "page"):
        from stablevsr.report import page

        print(f"the report is {page.render(study, paths)}")


def _add_plan(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _command(commands, "plan", "show a study's jobs, downloads, disk and GPU-hours before anything runs")
    parser.add_argument("study", metavar="STUDY", help="a file's stem in workflow/studies: mini, smoke, paper")
    parser.add_argument("--data", type=Path, default=Path("data"), help="where datasets lie (default: data)")
    parser.add_argument("--tflops", type=float, default=50.0,
                        help="what your card reaches in this work, in TFLOP/s (default: 50, assumed)")  # fmt: skip
    parser.set_defaults(run=_run_plan)


def _run_plan(arguments: argparse.Namespace) -> None:
    from stablevsr.study.paths import Paths
    from stablevsr.study.plan import plan
    from stablevsr.study.resolve import load_study

    study = load_study(arguments.study)
    print(plan(study, Paths(study), arguments.data, arguments.tflops))


def _add_doctor(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _command(commands, "doctor", "show what this machine has and lacks for each study, and the fix")
    parser.add_argument("--data", type=Path, default=Path("data"), help="where datasets lie (default: data)")
    parser.set_defaults(run=_run_doctor)


def _run_doctor(arguments: argparse.Namespace) -> None:
    from stablevsr.doctor import report

    print(report(Path(), arguments.data))


def _add_clean(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _command(commands, "clean", "show what no present study or ablation refers to; with --yes remove it")
    parser.add_argument("--yes", action="store_true", help="remove what was shown")
    parser.set_defaults(run=_run_clean)


def _run_clean(arguments: argparse.Namespace) -> None:
    from stablevsr.study.clean import remove, unreferenced

    found = unreferenced(Path())
    for path, size in found:
        print(f"{size / 2**20:9.1f} MiB  {path}")
    total = sum(size for _, size in found) / 2**20
    if arguments.yes:
        remove([path for path, _ in found])
        print(f"removed {len(found)} entries, {total:.1f} MiB")
    else:
        print(f"{len(found)} entries, {total:.1f} MiB that nothing refers to; `stablevsr clean --yes` removes them")
