"""Fingerprints of the code that computes a job's numbers: part of every digest, so that changed code makes new results.

The code of a job is the import closure of the module that does its work: every module of this package that it imports,
directly or through others, at the top or inside functions. What is hashed is the syntax, so comments, docstrings and
imports for type checkers change nothing; nor do the facts of a metric that only reports use, such as its label.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable
from dataclasses import fields
from functools import cache
from importlib.metadata import version
from pathlib import Path

from stablevsr.baselines import BASELINES
from stablevsr.metrics.metric import FOR_REPORTS, Metric
from stablevsr.runtime.hashing import content_hash, digest, folder_hash

PACKAGE = Path(__file__).parents[1]
LIBRARIES = ("torch", "diffusers")  #: whose versions are part of every fingerprint
#: Left out of fingerprints: these move files and report errors, and compute nothing; but for one module.
NO_NUMBERS, NUMBERS = ("stablevsr.runtime", "stablevsr.data.downloads"), "stablevsr.runtime.torch_settings"


@cache
def fingerprint(*modules: str, without: tuple[str, ...] = ()) -> str:
    """16 hex digits over the code that ``modules`` (dotted names) run, and the versions of torch and diffusers.

    ``without`` names packages to leave out although they are imported.
    """
    total = hashlib.sha256(" ".join(version(library) for library in LIBRARIES).encode())
    for name in sorted(import_closure(modules, without)):
        total.update(f"{name}\n{_text(_syntax(_file(name)))}".encode())
    return total.hexdigest()[:16]


def sampling_code(kind: str) -> str:
    """Fingerprint of the code that makes the frames of a method of ``kind``: the sampler, or a baseline.

    That of a command is not known; what it names is part of the method's identity.
    """
    job, sampler, baselines = "stablevsr.study.inference.run", "stablevsr.method", "stablevsr.baselines"
    if kind == "stablevsr":
        return fingerprint(job, without=(baselines,))
    alone = fingerprint(job, without=(sampler, baselines))
    return alone if kind in ("frames", "command") else digest([alone, fingerprint(BASELINES[kind].module)])


def training_code(kind: str) -> str:
    """Fingerprint of the code that trains a network of ``kind`` (:data:`stablevsr.training.tasks.TRAINING_KINDS`)."""
    # settings name the strategies, which no training runs: a new one must not train everything again
    task, strategies = f"stablevsr.training.tasks.{kind}", "stablevsr.method.strategies"
    return fingerprint("stablevsr.study.training", task, without=(strategies,))


def dataset_code(make: str | None) -> str:
    """Fingerprint of the code that prepares a dataset, and of the code that makes it if ``make`` is set."""
    return fingerprint("stablevsr.study.prepare", *([f"stablevsr.data.{make}"] if make else []))


def report_code(texts: Iterable[Path]) -> str:
    """Fingerprint of a report: its code, its templates, the files ``texts`` that it shows, and the metrics' facts."""
    parts = [f"stablevsr.report.{part}" for part in ("tables", "figures", "page", "provenance")]
    templates = sorted(f for f in (PACKAGE / "report").rglob("*.*") if f.is_file() and f.suffix not in (".py", ".pyc"))
    metrics = [_text(_syntax(file, facts=True)) for file in sorted((PACKAGE / "metrics" / "builtin").glob("*.py"))]
    return digest([fingerprint(*parts), content_hash([*templates, *texts]), metrics])


def script_code(script: Path) -> str:
    """Fingerprint of an ablation's script and of what it imports, without ``stablevsr.study``.

    What a script takes from there is settings and methods, whose digests its rules add.
    """
    modules = tuple(name for name in imports(script) if not name.startswith("stablevsr.study"))
    return digest([_text(_syntax(script)), fingerprint(*modules, without=("stablevsr.study",))])


def import_closure(modules: tuple[str, ...], without: tuple[str, ...] = ()) -> set[str]:
    """The modules of this package that ``modules`` import, themselves included; without :data:`NO_NUMBERS`."""
    found: set[str] = set()
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        if name not in found and (name == NUMBERS or not name.startswith((*NO_NUMBERS, *without))):
            found.add(name)
            waiting += imports(_file(name))
    return found


@cache
def imports(file: Path) -> tuple[str, ...]:
    """The modules of this package that a file imports when it runs, wherever in the file."""
    names: list[str] = []
    for node in ast.walk(_syntax(file)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert not node.level, f"{file} has a relative import, which fingerprints do not follow"
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return tuple(name for name in names if name.startswith("stablevsr.") and _file(name).exists())


class _Running(ast.NodeTransformer):
    """Removes what changes no number: docstrings, ``if TYPE_CHECKING:`` blocks and, without ``facts``, what of a
    metric only reports read."""

    def __init__(self, facts: bool) -> None:
        self.facts = facts

    def visit_Expr(self, node: ast.Expr) -> ast.Expr | None:
        return None if isinstance(node.value, ast.Constant) else node

    def visit_If(self, node: ast.If) -> ast.AST | list[ast.stmt] | None:
        self.generic_visit(node)
        return (node.orelse or None) if getattr(node.test, "id", "") == "TYPE_CHECKING" else node

    def visit_Call(self, node: ast.Call) -> ast.Call:
        self.generic_visit(node)
        if getattr(node.func, "id", "") == Metric.__name__ and not self.facts:
            names = [field.name for field in fields(Metric)]
            node.args = [value for name, value in zip(names, node.args, strict=False) if name not in FOR_REPORTS]
            node.keywords = [keyword for keyword in node.keywords if keyword.arg not in FOR_REPORTS]
        return node


@cache
def _syntax(file: Path, facts: bool = False) -> ast.AST:
    tree: ast.AST = _Running(facts).visit(ast.parse(file.read_text(encoding="utf-8")))
    return tree


def _text(node: object) -> str:
    """A syntax tree as text that all supported versions of Python agree on; ``ast.dump`` shows empty fields or not."""
    if isinstance(node, ast.AST):
        filled = ((name, value) for name, value in ast.iter_fields(node) if value not in (None, []))
        return f"{type(node).__name__}({','.join(f'{name}={_text(value)}' for name, value in filled)})"
    return f"[{','.join(map(_text, node))}]" if isinstance(node, list) else repr(node)


def _file(name: str) -> Path:
    base = PACKAGE.parent.joinpath(*name.split("."))
    return base / "__init__.py" if base.is_dir() else base.with_suffix(".py")


@cache
def embedded_weights() -> str:
    """A hash of the tiny model's networks."""
    parts = ("unet", "vae", "text_encoder", "scheduler", "controlnet")
    return digest([folder_hash(PACKAGE / "assets" / "tiny" / part) for part in parts])
