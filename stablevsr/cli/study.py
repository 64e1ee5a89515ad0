"""Commands about a study: ``data``, ``infer``, ``score``, ``report``, ``plan``, ``doctor`` and ``clean``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from stablevsr.cli.options import Commands, command, open_study, shard_of, study_options
from stablevsr.runtime.errors import UserError

if TYPE_CHECKING:
    from stablevsr.study.jobs import Chosen
    from stablevsr.study.paths import Paths


def add_data(commands: Commands) -> None:
    parser = command(
        commands, "data", "make the mini data or the set of other domains, or get a study's datasets ready"
    )
    kinds = parser.add_subparsers(title="what", metavar="WHAT", required=True)
    mini = command(kinds, "mini", "write the mini data: training, validation, a REDS-like and a Vimeo-like test set")
    mini.add_argument("--out", type=Path, default=Path("data/mini"))
    mini.set_defaults(run=_run_data_mini)
    stills = command(kinds, "stills", "write single frames of the film's training shots, for `stablevsr train base`")
    stills.add_argument("--out", type=Path, default=Path("data/stills"))
    stills.set_defaults(run=_run_data_stills)
    domains = command(kinds, "domains", "write a test set of pictures of scikit-image: medicine, astronomy, photos")
    domains.add_argument("--out", type=Path, default=Path("data/domains"))
    domains.set_defaults(run=_run_data_domains)
    prepare = command(kinds, "prepare", "link a study's test set into the plain layout, and make its LR frames")
    study_options(prepare)
    prepare.add_argument("--dataset", required=True, help="a test set of the study, by name")
    prepare.set_defaults(run=_run_data_prepare)
    train = command(kinds, "prepare-training", "check and hash a study's training set, and make its LR frames")
    study_options(train)
    train.add_argument("--dataset", required=True, help="a training set of the study, by name")
    train.set_defaults(run=_run_data_training)


def _run_data_mini(arguments: argparse.Namespace) -> None:
    from stablevsr.data.downloads.weights import weight_file
    from stablevsr.data.mini import build
    from stablevsr.runtime.locks import single_writer

    film = weight_file("big_buck_bunny")
    with single_writer(arguments.out):
        build(arguments.out, film)
    print(f"{arguments.out / 'CARD.md'} describes the mini data in {arguments.out}")


def _run_data_stills(arguments: argparse.Namespace) -> None:
    from stablevsr.data.downloads.weights import weight_file
    from stablevsr.data.mini import build_stills
    from stablevsr.runtime.locks import single_writer

    film = weight_file("big_buck_bunny")
    with single_writer(arguments.out):
        build_stills(arguments.out, film)
    print(f"{len(list((arguments.out / 'gt').iterdir()))} stills in {arguments.out}")


def _run_data_domains(arguments: argparse.Namespace) -> None:
    from stablevsr.data.domains import build
    from stablevsr.runtime.locks import single_writer

    with single_writer(arguments.out):
        build(arguments.out)
    print(f"{arguments.out / 'CARD.md'} describes the clips in {arguments.out}")


def _run_data_prepare(arguments: argparse.Namespace) -> None:
    from stablevsr.runtime.locks import single_writer
    from stablevsr.study.prepare import link_dataset, open_dataset

    study, paths = open_study(arguments)
    spec, target = study.dataset(arguments.dataset), paths.dataset(arguments.dataset)
    with single_writer(target):
        sequences = open_dataset(spec, paths.low_resolution(spec))
        link_dataset(sequences, target)
    print(f"{target} links the {len(sequences)} sequences of {arguments.dataset}")


def _run_data_training(arguments: argparse.Namespace) -> None:
    from stablevsr.study.training_data import record_training_data

    study, paths = open_study(arguments)
    spec = study.dataset(arguments.dataset, training=True)
    record = record_training_data(spec, paths)
    counts = f"{len(record['sequences'])} clips of {arguments.dataset}, {len(record['validation'])} for validation"
    print(f"{paths.training_data(spec)} holds the hashes of {counts}")


def add_infer(commands: Commands) -> None:
    parser = command(commands, "infer", "make the frames of methods of a study on one shard of its data sets")
    _shard_options(parser)
    parser.set_defaults(run=_run_infer, resumes=True)


def add_score(commands: Commands) -> None:
    parser = command(commands, "score", "score the frames of methods of a study on one shard of its data sets")
    _shard_options(parser)
    parser.set_defaults(run=_run_score)


def _shard_options(parser: argparse.ArgumentParser) -> None:
    study_options(parser)
    parser.add_argument("--method", required=True, action="append",
                        help="a method's name (`ablation.variant`) or digest; may be given several times")  # fmt: skip
    parser.add_argument("--dataset", required=True, action="append",
                        help="a test set of the study, by name; may be given several times")  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="of the noise, which is the number of the run (default: 0)")
    parser.add_argument("--shard", default="0/1", metavar="K/N",
                        help="every N-th sequence from the K-th on, N as in the study (default: 0/1)")  # fmt: skip


def _run_infer(arguments: argparse.Namespace) -> None:
    from stablevsr.study.jobs import infer_all

    infer_all(*_chosen(arguments))


def _run_score(arguments: argparse.Namespace) -> None:
    from stablevsr.study.jobs import score_all

    score_all(*_chosen(arguments))


def _chosen(arguments: argparse.Namespace) -> tuple[Paths, Chosen, int]:
    """The study's paths, the methods that a job is for, and the shard."""
    from stablevsr.study.jobs import choose

    study, paths = open_study(arguments)
    index, count = shard_of(arguments.shard)
    return paths, choose(study, arguments.method, arguments.dataset, arguments.seed, count), index


def add_report(commands: Commands) -> None:
    parser = command(commands, "report", "render a study's tables, figures and page from its results")
    study_options(parser)
    parser.add_argument("--part", choices=["scores", "tables", "figures", "page"],
                        help="only this part (default: all, in this order)")  # fmt: skip
    parser.add_argument("--table", metavar="NAME", help="only this table: table1, or an ablation's name")
    parser.add_argument("--method", action="append",
                        help="with --part scores: only this method's table; may be given several times")  # fmt: skip
    parser.add_argument("--dataset", help="with --part scores: only this dataset")
    parser.add_argument("--export", action="store_true",
                        help="also write what others read into the study's folder: .eval_results for the Hugging Face "
                             "hub, an RO-Crate with citation and licence, seconds and memory by hardware")  # fmt: skip
    parser.set_defaults(run=_run_report)


def _check_report_options(arguments: argparse.Namespace) -> None:
    """Raise :class:`UserError` for options that would have no effect."""
    given = {name: getattr(arguments, name) for name in ("part", "method", "dataset", "export")}
    useless = [name for name, value in given.items() if value] if arguments.table else []
    if not arguments.table and arguments.part not in (None, "scores"):
        useless = [name for name in ("method", "dataset") if given[name]]
    if useless:
        what = "--table" if arguments.table else f"--part {arguments.part}"
        raise UserError(f"--{useless[0]} has no effect with {what}: leave it out")


def _run_report(arguments: argparse.Namespace) -> None:
    study, paths = open_study(arguments)
    _check_report_options(arguments)
    if arguments.table:
        from stablevsr.report.tables import render_one

        print(*render_one(paths, arguments.table), sep="\n")
        return
    part = arguments.part
    if part in (None, "scores"):
        from stablevsr.study.result_tables import merge_scores

        if arguments.dataset:
            study.dataset(arguments.dataset)
        for name in arguments.method or study.methods:
            method = study.methods[study.find(name).name]  # with its forms in all runs, if a digest named one of them
            for dataset in method.datasets:
                if arguments.dataset in (None, dataset):
                    merge_scores(study, paths, method, dataset)
    if part in (None, "tables"):
        from stablevsr.report import provenance, tables

        tables.render(paths)
        provenance.write(paths)
    if part in (None, "figures"):
        from stablevsr.report import figures

        figures.render(paths)
    if part in (None, "page"):
        from stablevsr.report import page

        print(f"the report is {page.render(paths)}")
    if arguments.export:
        import datetime

        from stablevsr.report.export import export

        for file in export(paths, datetime.date.today()):
            print(file)


def add_plan(commands: Commands) -> None:
    parser = command(commands, "plan", "show a study's jobs, downloads, disk and GPU-hours before anything runs")
    parser.add_argument(
        "study", metavar="STUDY", help="a file's stem in workflow/studies: mini, evidence, smoke, paper, table1, ..."
    )
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder of the datasets (default: data)")
    parser.add_argument("--tflops", type=float, default=28.0,
                        help="what your GPU reaches in this work, in TFLOP/s (default: 28, an H200 in float32; with "
                        "TF32 it reaches 58)")  # fmt: skip
    parser.set_defaults(run=_run_plan)


def _run_plan(arguments: argparse.Namespace) -> None:
    from stablevsr.study.plan import plan
    from stablevsr.study.requirements import check_external

    if not 0 < arguments.tflops < float("inf"):
        raise UserError(f"--tflops {arguments.tflops} must be a number above 0")
    study, paths = open_study(arguments)
    check_external(study)
    print(plan(study, paths, arguments.data, arguments.tflops))


def add_doctor(commands: Commands) -> None:
    parser = command(commands, "doctor", "show what this machine has and lacks for each study, and the fix")
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder of the datasets (default: data)")
    parser.set_defaults(run=_run_doctor)


def _run_doctor(arguments: argparse.Namespace) -> None:
    from stablevsr.study.doctor import report

    print(report(Path(), arguments.data))


def add_clean(commands: Commands) -> None:
    parser = command(commands, "clean", "show what no present study or ablation refers to; with --yes remove it")
    parser.add_argument("--damaged", action="store_true",
                        help="show (or remove) files that are damaged, as after a power cut; "
                             "the next run makes them again")  # fmt: skip
    parser.add_argument("--yes", action="store_true", help="remove what was shown")
    parser.set_defaults(run=_run_clean)


def _run_clean(arguments: argparse.Namespace) -> None:
    from stablevsr.study.clean import remove, size, unreferenced

    if arguments.damaged:
        return _clean_damaged(arguments.yes)
    found = unreferenced(Path())
    for path, occupied in found:
        print(f"{occupied / 2**20:9.1f} MiB  {path}")
    total = sum(occupied for _, occupied in found) / 2**20
    if arguments.yes:
        remove([path for path, _ in found])
        print(f"removed {len(found)} entries, {total:.1f} MiB")
    else:
        print(f"{len(found)} entries, {total:.1f} MiB that nothing refers to; `stablevsr clean --yes` removes them")
    if cache := size(Path("work/cache")):
        kept = f"{cache / 2**20:.1f} MiB of the ground truth's flows and features"
        print(f"work/cache holds {kept}, which all studies share; they are computed again if you remove it by hand")


def _clean_damaged(yes: bool) -> None:
    from stablevsr.study.clean import remove
    from stablevsr.study.damage import damaged

    found = damaged(Path())
    print("".join(f"{path}\n" for path in found), end="")
    if yes:
        remove(found)
    print(f"{len(found)} entries are damaged{': removed, the next run makes them again' if found and yes else ''}")
