"""``stablevsr train``: a study's networks, the cached samples its TCMs learn from, and the tiny base model."""

from __future__ import annotations

import argparse
from pathlib import Path

from stablevsr.cli.options import Commands, command, open_study, study_options
from stablevsr.runtime.devices import device_of
from stablevsr.runtime.torch_settings import configure_torch


def add_train(commands: Commands) -> None:
    from stablevsr.training.tasks import TRAINING_KINDS

    parser = command(commands, "train", "train a study's TCM, UNet or small decoder, or the tiny base model")
    kinds = parser.add_subparsers(title="what", metavar="WHAT", required=True)
    for kind, network in TRAINING_KINDS.items():
        each = _of_a_study(kinds, kind, f"train one {network} of a study")
        each.add_argument("--tensorboard", type=Path, metavar="DIR", help="also write the history for TensorBoard")
        each.set_defaults(run=_run_train, kind=kind, resumes=True)
    samples = _of_a_study(kinds, "samples", "compute the cached samples that TCM trainings share")
    samples.set_defaults(run=_run_samples)
    _add_base(kinds)


def _add_base(kinds: Commands) -> None:
    base = command(kinds, "base", "make the tiny base model (VAE, UNet, TCM) from the mini data: 20 minutes on a GPU")
    base.add_argument("--data", type=Path, nargs="+", default=[Path("data/mini/train"), Path("data/stills")],
                      help="what to train on, in the plain layout (default: data/mini/train data/stills)")  # fmt: skip
    base.add_argument("--val", type=Path, default=Path("data/mini/val"), help="scenes to measure on (plain layout)")
    base.add_argument("--out", type=Path, required=True, help="the model folder")
    base.add_argument("--state", type=Path, default=Path("work/base_state"), help="resume states")
    base.add_argument("--device", default="cpu", help="cpu or cuda (default: cpu)")
    base.add_argument("--steps", nargs="*", default=[], metavar="STAGE=STEPS", help="other lengths than the recipe's")
    base.set_defaults(run=_run_base, resumes=True)


def _of_a_study(kinds: Commands, name: str, text: str) -> argparse.ArgumentParser:
    parser = command(kinds, name, text)
    study_options(parser)
    parser.add_argument("--name", dest="training", required=True, metavar="NAME",
                        help="digest, method that uses it, or name under finetuned")  # fmt: skip
    return parser


def _run_train(arguments: argparse.Namespace) -> None:
    study, paths = open_study(arguments)
    run = study.training(arguments.kind, arguments.training)
    configure_torch(run.settings.tf32)
    from stablevsr.study.training import train_run

    train_run(run, paths, device_of(study.spec.device), arguments.tensorboard)


def _run_samples(arguments: argparse.Namespace) -> None:
    study, paths = open_study(arguments)
    run = study.training("tcm", arguments.training)
    configure_torch(run.settings.tf32)
    from stablevsr.study.training import make_samples

    make_samples(run, paths, device_of(study.spec.device))


def _run_base(arguments: argparse.Namespace) -> None:
    from stablevsr.data.layouts import load_sequences
    from stablevsr.training.base_model import BaseTraining, steps_by_stage
    from stablevsr.training.base_quality import measure

    device = device_of(arguments.device)
    configure_torch(tf32=True)  # precise enough for trainings of small networks; of no effect on a CPU
    steps = steps_by_stage(arguments.steps)
    clips = [clip for folder in arguments.data for clip in load_sequences("plain", folder, "train")]
    scenes = load_sequences("plain", arguments.val, "train")
    BaseTraining(clips, scenes, arguments.out, arguments.state, steps, device).run()
    print(measure(arguments.out, scenes, arguments.out), end="")
