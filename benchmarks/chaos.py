"""Kills, signals, damaged files and full disks while the smoke study runs, and whether its results stay the same.

The study runs once undisturbed. Then it is disturbed in four ways, each with its own count:

- kills: the whole process group gets SIGKILL, SIGTERM or SIGINT after a random time, until the study has finished;
- damages: after such a stop, or in the finished study, files of ``work/`` and ``results/`` are emptied, zeroed, cut or
  changed in one byte; `stablevsr clean --damaged --yes` and the same Snakemake command follow;
- full disks: a limit on the size of files stops every process that writes more, as a full disk does.

Afterwards all frames, scores and tables must have the bytes of the undisturbed run, and no output a traceback.

    python benchmarks/chaos.py --kills 30 --damages 30 --full-disks 3

``--small`` takes a part of the smoke study: two methods, one run, two metrics, one data set.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import nullcontext, suppress
from pathlib import Path

import yaml

REPOSITORY = Path(__file__).parents[1]
PARTS = ("stablevsr", "Snakefile", "workflow", "ablations", "profiles", "results/published")
SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
STORES = ("frames", "manifests", "scores", "datasets", "lr", "trainings", "states", "samples", "cache")
SAME = ("work/frames", "work/lr", "results/chaos/tables", "results/chaos/metrics")  #: compared byte by byte
SMALL = """
metrics: [tof_dis, psnr]
methods: {bicubic: {label: Bicubic, kind: bicubic}}
ablations: []
table1: []
claims: []
runs: 1
"""
#: Without a lock, which a kill would leave behind: nobody else runs the study here.
SNAKEMAKE = [
    sys.executable, "-m", "snakemake", "--nolock", "--rerun-incomplete", "--cores", "2", "--resources", "gpu=1",
    "--config", "study=chaos",
]  # fmt: skip
CLEAN = [sys.executable, "-m", "stablevsr", "clean", "--damaged", "--yes"]


class WrongError(Exception):
    """What must not happen: a traceback, a failure that does not heal, other results."""


class Chaos:
    """One study in ``folder``, disturbed at random."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.random, self.counts = folder, random.Random(seed), Counter[str]()
        self.environment = {**os.environ, "PYTHONPATH": str(folder), "TQDM_DISABLE": "1"}
        self.environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self.log = folder / "chaos.log"

    def prepare(self, small: bool) -> None:
        """Copy what Snakemake reads, with the mini data of the repository if it is there, and write the study."""
        for part in PARTS:
            source, target = REPOSITORY / part, self.folder / part
            target.parent.mkdir(parents=True, exist_ok=True)
            (shutil.copytree if source.is_dir() else shutil.copy)(source, target)
        if (REPOSITORY / "data").is_dir():
            shutil.copytree(REPOSITORY / "data", self.folder / "data")
        study = yaml.safe_load((self.folder / "workflow/studies/smoke.yaml").read_text(encoding="utf-8"))
        if small:
            study |= yaml.safe_load(SMALL)
            del study["datasets"]["vimeo"]
        (self.folder / "workflow/studies/chaos.yaml").write_text(yaml.safe_dump(study), encoding="utf-8")

    def run(self, command: list[str], stop_after: float | None = None, file_limit: int | None = None) -> int:
        """Run a command, killed with a random signal after ``stop_after`` seconds; returns its exit status."""

        def limit() -> None:
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # ignored by what a shell runs in the background
            if file_limit is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit, file_limit))

        start = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                command, cwd=self.folder, env=self.environment, stdout=log, stderr=log, start_new_session=True,
                preexec_fn=limit,
            )  # fmt: skip
            try:
                process.wait(stop_after)
            except subprocess.TimeoutExpired:
                chosen = self.random.choice(SIGNALS)
                os.killpg(process.pid, chosen)
                self.counts[chosen.name] += 1
                print(f"{chosen.name} after {stop_after:.0f} s", flush=True)
                process.wait()
                with suppress(ProcessLookupError):  # what outlived it
                    os.killpg(process.pid, signal.SIGKILL)
        said = self.log.read_bytes()[start:].decode(errors="replace")
        if "Traceback (most recent call last)" in said and stop_after is None and file_limit is None:
            raise WrongError(f"a traceback: see {self.log}")
        return process.returncode

    def heal(self) -> None:
        """What a person does after a power cut: remove what is damaged, run again."""
        self.run(CLEAN)
        if self.run(SNAKEMAKE) and self.run(SNAKEMAKE):
            raise WrongError(f"the study fails again and again: see {self.log}")

    def damage(self) -> str:
        """Damage one file of the results; returns what was done."""
        store = self.random.choice([*STORES, "results"])
        root = self.folder / ("results/chaos" if store == "results" else f"work/{store}")
        files = sorted(p for p in root.rglob("*") if p.is_file() and not p.is_symlink() and p.stat().st_size > 20)
        if not files:
            return self.damage()
        file, kind = self.random.choice(files), self.random.choice(("empty", "zero", "cut", "flip"))
        if store == "results":  # rendered again in seconds, without checksums
            kind = self.random.choice(("empty", "zero"))
        content = file.read_bytes()
        place = self.random.randrange(len(content))
        file.write_bytes({
            "empty": b"", "zero": bytes(len(content)), "cut": content[: len(content) // 2],
            "flip": content[:place] + bytes([content[place] ^ 0x55]) + content[place + 1 :],
        }[kind])  # fmt: skip
        self.counts[f"{kind} in {store}"] += 1
        if store == "cache":  # read again only where scores are made again
            shutil.rmtree(self.folder / "work/scores", ignore_errors=True)
        return f"{kind}: {file.relative_to(self.folder)}"

    def content(self) -> dict[str, str]:
        """sha256 of every compared file."""
        return {
            str(p.relative_to(self.folder)): hashlib.sha256(p.read_bytes()).hexdigest()
            for part in SAME
            for p in sorted((self.folder / part).rglob("*"))
            if p.is_file() and p.suffix in (".png", ".csv")
        }


def compare(before: dict[str, str], after: dict[str, str]) -> None:
    """Raise :class:`WrongError` unless both runs have the same files with the same bytes."""
    differing = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    if differing:
        raise WrongError(f"{len(differing)} of {len(before)} files differ, the first is {differing[0]}")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--damages", type=int, default=30)
    parser.add_argument("--at-once", type=int, default=3, help="damages before each repair")
    parser.add_argument("--full-disks", type=int, default=3)
    parser.add_argument("--small", action="store_true", help="a part of the smoke study")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="keep everything there (a new folder)")
    chosen = parser.parse_args(argv)
    if chosen.folder:
        chosen.folder.mkdir(parents=True)
    with nullcontext(chosen.folder) if chosen.folder else tempfile.TemporaryDirectory(prefix="chaos-") as place:
        folder = Path(place)
        return disturb(Chaos(folder, chosen.seed), chosen)


def disturb(chaos: Chaos, chosen: argparse.Namespace) -> int:
    """All disturbances, and the figures."""
    began = time.monotonic()
    chaos.prepare(chosen.small)
    if chaos.run(SNAKEMAKE):
        print(f"the undisturbed study fails: see {chaos.log}", file=sys.stderr)
        return 1
    expected, again = chaos.content(), time.monotonic()
    restart(chaos.folder)  # timed without the data, which the first run may have made
    chaos.heal()
    compare(expected, chaos.content())
    whole = time.monotonic() - again
    print(f"undisturbed: {whole:.0f} s, {len(expected)} files compared", flush=True)
    try:
        kill(chaos, chosen.kills, whole)
        compare(expected, chaos.content())
        for size in [chaos.random.choice((2_000, 20_000, 200_000)) for _ in range(chosen.full_disks)]:
            for part in ("scores", "frames", "manifests"):
                shutil.rmtree(chaos.folder / "work" / part, ignore_errors=True)
            chaos.counts["full disk"] += chaos.run(SNAKEMAKE, file_limit=size) != 0
            chaos.heal()
            compare(expected, chaos.content())
        while (left := chosen.damages - sum(n for name, n in chaos.counts.items() if " in " in name)) > 0:
            done = [chaos.damage() for _ in range(min(left, chosen.at_once))]
            print(*done, sep="; ", flush=True)
            chaos.heal()
            compare(expected, chaos.content())
    except WrongError as error:
        print(f"WRONG: {error}", file=sys.stderr)
        return 1
    figures = ", ".join(f"{name} {count}" for name, count in sorted(chaos.counts.items()))
    print(f"nothing wrong, nothing lost in {time.monotonic() - began:.0f} s: {figures}")
    return 0


def kill(chaos: Chaos, kills: int, whole: float) -> None:
    """Stop the study ``kills`` times at random, then let it finish; from the start where it finished before."""
    restart(chaos.folder)
    while sum(chaos.counts[s.name] for s in set(SIGNALS)) < kills:
        if chaos.run(SNAKEMAKE, stop_after=chaos.random.uniform(3, max(20.0, whole / 6))) == 0:
            chaos.counts["finished in between"] += 1
            restart(chaos.folder)
    chaos.heal()


def restart(folder: Path) -> None:
    """Remove all results, not the data and the stamps of its code: making the data again takes the most time."""
    for path in [*(folder / "work").iterdir(), folder / "results/chaos"]:
        if path.name != "code":
            shutil.rmtree(path, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
