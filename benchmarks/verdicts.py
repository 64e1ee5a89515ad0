"""How often verdicts err, and what they find: a simulation, printed as the tables of docs/statistics.md.

    python benchmarks/verdicts.py [TRIALS]

Differences between two methods have a standard deviation of 1 over scenes, correlated by 0.5 between the statements of
a family. Each run adds an effect of 0.3 that moves all scenes together (another training), and 0.3 for each scene.
"""

import math
import sys

import numpy as np
import pandas as pd

from stablevsr.metrics.statistics import Comparison
from stablevsr.report.verdicts import Evidence, adjusted_p, judge

SCENES, RUNS, STATEMENTS = (3, 6, 9), (1, 3, 5), 6
DECIDED = ("holds", "does not hold")
GIVEN_CLIPS = ("holds for these clips", "does not hold for these clips")


def verdicts(found: list[Comparison], trained: bool) -> list[str]:
    """The verdicts on a family of statements."""
    adjusted = adjusted_p(found, [trained] * len(found))
    return [judge(Evidence(c, p, True, False, trained, None))[0] for c, p in zip(found, adjusted, strict=True)]


def _comparison(values: np.ndarray) -> Comparison:
    scenes, runs = pd.Series(values.mean(axis=0)), pd.Series(values.mean(axis=1))
    same_sign = int((np.sign(scenes) == np.sign(scenes.mean())).sum())
    return Comparison(scenes.mean(), 0, 0, 1, len(scenes), len(runs), same_sign, 0, scenes, runs)


def simulate(scenes: int, runs: int, effect: float, trials: int, spread: float = 1.0) -> tuple[float, float, float]:
    """Shares of trials in which a statement alone, the same one in its family, and any of the family is decided.

    One run is the case of methods without training; several runs are trainings. With a ``spread`` of 0 over scenes only
    the runs differ, and what is counted is the verdict on given clips.
    """
    random = np.random.default_rng([scenes, runs])
    trained = runs > 1
    wanted = DECIDED if spread else GIVEN_CLIPS
    counts = np.zeros(3)
    for _ in range(trials):
        shared, own = random.normal(size=(1, scenes, 1)), random.normal(size=(1, scenes, STATEMENTS))
        run = 0.3 * random.normal(size=(runs, 1, STATEMENTS)) if trained else 0.0
        rest = 0.3 * random.normal(size=(runs, scenes, STATEMENTS))
        values = effect + spread * math.sqrt(0.5) * (shared + own) + run + rest
        found = [_comparison(values[:, :, i]) for i in range(STATEMENTS)]
        alone, family = verdicts(found[:1], trained), verdicts(found, trained)
        counts += [alone[0] in wanted, family[0] in wanted, any(v in wanted for v in family)]
    alone_share, in_family, any_share = counts / trials
    return alone_share, in_family, any_share


def main(trials: int) -> None:
    print("| scenes | runs | no effect: one statement | no effect: any of six | effect 1 | effect 1.5 |")
    print("|---|---|---|---|---|---|")
    for scenes in SCENES:
        for runs in RUNS:
            alone, _, any_of_six = simulate(scenes, runs, 0.0, trials)
            power = [simulate(scenes, runs, effect, trials // 4)[1] for effect in (1.0, 1.5)]
            print(
                f"| {scenes} | {runs} | " + " | ".join(f"{100 * x:.1f} %" for x in (alone, any_of_six, *power)) + " |"
            )
    print("\n| given clips | runs | no effect: one statement | no effect: any of six | effect 0.5 | effect 1 |")
    print("|---|---|---|---|---|---|")
    for runs in (3, 5):
        alone, _, any_of_six = simulate(4, runs, 0.0, trials, spread=0.0)
        power = [simulate(4, runs, effect, trials, spread=0.0)[1] for effect in (0.5, 1.0)]
        print(f"| 4 | {runs} | " + " | ".join(f"{100 * x:.1f} %" for x in (alone, any_of_six, *power)) + " |")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 2000)
