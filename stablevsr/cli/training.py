"""``stablevsr train``: a study's networks, the cached samples its TCMs learn from, and the tiny base model."""

from __future__ import annotations

import argparse
from pathlib import Path

from stablevsr.cli.options import Commands, command, open_study, study_options
from stablevsr.runtime.devices import device_of, set_threads


def add_train(commands: Commands) -> None:
    from stablevsr.training.tasks import KINDS

    parser = command(commands, "train", "train a study's TCM, UNet or small decoder, or the tiny base model")
    kinds = parser.add_subparsers(title="what", metavar="WHAT", required=True)
    for kind, network in KINDS.items():
        each = _of_a_study(kinds, kind, f"train one {network} of a study")
        each.add_argument("--tensorboard", type=Path, metavar="DIR", help="also write the history for TensorBoard")
        each.set_defaults(run=_run_train, kind=kind)
    samples = _of_a_study(kinds, "samples", "compute the cached samples that TCM trainings share")
    samples.set_defaults(run=_run_samples)
    base = command(kinds, "base", "make the tiny base model (VAE and UNet) from the mini data: hours on two cores")
    base.add_argument("--data", type=Path, default=Path("data/mini/REDS"), help="a set in the layout of REDS")
    base.add_argument("--out", type=Path, required=True)
    base.add_argument("--state", type=Path, default=Path("work/base_state"), help="resume states")
    for part, steps in (("vae", 9000), ("unet", 5500), ("decoder", 1500)):
        base.add_argument(f"--{part}-steps", type=int, default=steps)
    base.set_defaults(run=_run_base)


def _of_a_study(kinds: Commands, name: str, text: str) -> argparse.ArgumentParser:
    parser = command(kinds, name, text)
    study_options(parser)
    parser.add_argument("--name", dest="training", required=True, metavar="NAME",
                        help="digest, method that uses it, or name under finetuned")  # fmt: skip
    return parser


def _run_train(arguments: argparse.Namespace) -> None:
    study, paths = open_study(arguments)
    run = study.training(arguments.kind, arguments.training)
    set_threads()
    from stablevsr.study.training import train_run

    train_run(run, paths, device_of(study.spec.device), arguments.tensorboard)


def _run_samples(arguments: argparse.Namespace) -> None:
    study, paths = open_study(arguments)
    run = study.training("tcm", arguments.training)
    set_threads()
    from stablevsr.study.training import make_samples

    make_samples(run, paths, device_of(study.spec.device))


def _run_base(arguments: argparse.Namespace) -> None:
    from stablevsr.training.base_model import make_base_model, measure

    steps = {part: getattr(arguments, f"{part}_steps") for part in ("vae", "unet", "decoder")}
    make_base_model(arguments.data, arguments.out, arguments.state, steps)
    print(measure(arguments.out, arguments.data, arguments.out), end="")
