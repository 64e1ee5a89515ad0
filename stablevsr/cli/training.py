"""``stablevsr train``: a study's TCMs and base models, the frozen samples TCMs learn from, the tiny base model."""

from __future__ import annotations

import argparse
from pathlib import Path

from stablevsr.cli.options import Commands, command, device_of, set_threads, study_options


def add_train(commands: Commands) -> None:
    parser = command(commands, "train", "train a study's TCM, UNet or small decoder, or the tiny base model")
    kinds = parser.add_subparsers(title="what", metavar="WHAT", required=True)
    for name, text, run in (
        ("tcm", "train one TCM of a study", _run_train_tcm),
        ("pool", "freeze the samples that the TCM trainings of a small study share", _run_train_pool),
    ):
        each = command(kinds, name, text)
        study_options(each)
        each.add_argument("--training", required=True, help="a method's name, or a training's digest")
        each.set_defaults(run=run)
        if name == "tcm":
            _board_option(each)
    unet = command(kinds, "unet", "fine-tune a UNet as single-image SR: a base model of a study")
    study_options(unet)
    unet.add_argument("--finetuned", required=True, metavar="NAME", help="a name under the study's finetuned")
    _board_option(unet)
    unet.set_defaults(run=_run_train_unet)
    decoder = command(kinds, "decoder", "distil a small decoder for the guidance from a model's VAE")
    study_options(decoder)
    decoder.add_argument("--decoder", required=True, metavar="NAME", help="a method's name, or a distillation's digest")
    _board_option(decoder)
    decoder.set_defaults(run=_run_train_decoder)
    base = command(kinds, "base", "make the tiny base model (VAE and UNet) from the mini data: hours on two cores")
    base.add_argument("--data", type=Path, default=Path("data/mini/REDS"), help="a set in the layout of REDS")
    base.add_argument("--out", type=Path, required=True)
    base.add_argument("--state", type=Path, default=Path("work/base_state"), help="resume states")
    base.add_argument("--vae-steps", type=int, default=9000)
    base.add_argument("--unet-steps", type=int, default=5500)
    base.add_argument("--decoder-steps", type=int, default=1500)
    base.set_defaults(run=_run_train_base)


def _board_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--tensorboard", type=Path, metavar="DIR", help="also write the history for TensorBoard")


def _run_train_tcm(arguments: argparse.Namespace) -> None:
    from stablevsr.study.paths import Paths
    from stablevsr.study.resolve import load_study

    study = load_study(arguments.study)
    run = study.training(arguments.training)
    paths = Paths(study)
    set_threads()
    from stablevsr.study.training import train_tcm

    train_tcm(
        run,
        paths.model(run.base),
        paths.checkpoint(run.digest),
        paths.state(run.digest),
        paths.pools,
        device_of(study.spec.device),
        arguments.tensorboard,
    )


def _run_train_pool(arguments: argparse.Namespace) -> None:
    from stablevsr.study.paths import Paths
    from stablevsr.study.resolve import load_study

    study = load_study(arguments.study)
    run = study.training(arguments.training)
    paths = Paths(study)
    set_threads()
    from stablevsr.study.training import make_pool

    make_pool(run, paths.model(run.base), paths.pools, device_of(study.spec.device))


def _run_train_unet(arguments: argparse.Namespace) -> None:
    from stablevsr.study.paths import Paths
    from stablevsr.study.resolve import load_study

    study = load_study(arguments.study)
    run = study.finetuning(arguments.finetuned)
    paths = Paths(study)
    set_threads()
    from stablevsr.study.training import finetune

    finetune(
        run, paths.finetuned(run.digest), paths.state(run.digest), device_of(study.spec.device), arguments.tensorboard
    )


def _run_train_decoder(arguments: argparse.Namespace) -> None:
    from stablevsr.study.paths import Paths
    from stablevsr.study.resolve import load_study

    study = load_study(arguments.study)
    run = study.decoder(arguments.decoder)
    paths = Paths(study)
    set_threads()
    from stablevsr.study.training import distil

    distil(
        run,
        paths.model(run.base),
        paths.decoder(run.digest),
        paths.state(run.digest),
        device_of(study.spec.device),
        arguments.tensorboard,
    )


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
