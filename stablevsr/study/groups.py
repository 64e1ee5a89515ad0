"""Which methods share a job: starting one takes seconds, and metrics compute their part of the ground truth once.

An ablation's methods are a group, the baselines are one (two for frames: those that run on a GPU, and the others, which
must not keep one waiting), and the study's method is one, in each run. So a new ablation adds jobs and changes none. A
method of several ablations belongs to the first. A method with a command is the only one of its group, because it may
take days or fail. So is a method with frames from a folder, which an ablation's rules may make from frames of its other
methods.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

from stablevsr.baselines import BASELINES
from stablevsr.study.methods import Method, ResolvedStudy


@dataclass(frozen=True)
class Group:
    """Methods of one run, on data sets with the same number of shards. One job makes their frames of a shard."""

    name: str  #: of letters, digits and _, unique in a study
    run: int
    shards: int
    forms: dict[str, list[Method]]  #: by data set

    @property
    def digests(self) -> list[str]:
        """The digests of its methods, each once."""
        return list(dict.fromkeys(form.digest for forms in self.forms.values() for form in forms))

    @property
    def resources(self) -> dict[str, int]:
        """The resources that a command asks for, by name: they replace the study's. Empty for other methods."""
        forms = (form for forms in self.forms.values() for form in forms)
        return {name: amount for form in forms if form.command for name, amount in form.command.resources}

    @property
    def on_gpu(self) -> bool:
        """Whether any of its methods runs on a GPU where there is one; a command may."""
        return any(not _on_cpu(form) for forms in self.forms.values() for form in forms)

    @property
    def size(self) -> int:
        """How many methods it has, counted on each data set."""
        return sum(map(len, self.forms.values()))


def owner(method: Method) -> str:
    """What a method belongs to: its ablation, ``baselines``, the study's method, or itself."""
    if method.kind in ("frames", "command"):
        return f"{method.kind}_{method.name}"
    return method.name.partition(".")[0] if method.kind == "stablevsr" else "baselines"


def _on_cpu(method: Method) -> bool:
    return method.kind == "frames" or (method.kind in BASELINES and not BASELINES[method.kind].on_torch)


def sampled_with(method: Method) -> str:
    """As :func:`owner`, but ``baselines_cpu`` for baselines that run on the CPU alone."""
    return "baselines_cpu" if method.kind in BASELINES and _on_cpu(method) else owner(method)


def plain(name: str) -> str:
    """A name with _ for everything but letters and digits, for rules and files."""
    return re.sub(r"\W", "_", name)


def groups(study: ResolvedStudy, whose: Callable[[Method], str]) -> list[Group]:
    """All groups of a study, by :func:`sampled_with` (frames) or :func:`owner` (scores); each form is in one."""
    found: dict[tuple[str, int, int], dict[str, list[Method]]] = defaultdict(lambda: defaultdict(list))
    for dataset, spec in study.spec.datasets.items():
        once = {(form.digest, form.run): form for form in reversed(study.forms_on(dataset))}
        for form in reversed(once.values()):
            found[whose(form), form.run, spec.shards][dataset].append(form)
    named: dict[str, Group] = {}
    for (owned_by, run, shards), forms in found.items():
        name = plain("_".join([owned_by, *forms, f"run{run}"]))
        name += f"_{len(named)}" if name in named else ""
        named[name] = Group(name, run, shards, dict(forms))
    return list(named.values())


def tables(study: ResolvedStudy) -> dict[tuple[str, str], list[Method]]:
    """The methods whose tables of scores one job writes, by data set and owner."""
    found: dict[tuple[str, str], list[Method]] = defaultdict(list)
    for method in study.methods.values():
        for dataset in method.datasets:
            found[dataset, owner(method)].append(method)
    return dict(found)
