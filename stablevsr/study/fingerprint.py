"""What made a result: fingerprints of the code that decides numbers, and hashes of weights.

The code of a job is the import closure of the module that does its work: every module of this package that it imports,
directly or through others, at the top or inside functions. Of each the syntax is hashed, without comments and
docstrings, so that a change of words is no change. Imports for type checkers alone never run and are left out.
"""

from __future__ import annotations

import ast
import hashlib
from functools import cache
from importlib.metadata import version
from pathlib import Path

PACKAGE = Path(__file__).parents[1]
LIBRARIES = ("torch", "diffusers")  #: whose versions decide numbers too
#: Packages that bring files and handle errors, whatever the numbers in them are: no part of any fingerprint.
NO_NUMBERS = ("stablevsr.runtime", "stablevsr.data.downloads")


@cache
def fingerprint(*modules: str) -> str:
    """16 hex digits over the code that ``modules`` (dotted names) run, and the versions of torch and diffusers."""
    total = hashlib.sha256(" ".join(version(library) for library in LIBRARIES).encode())
    for name in sorted(import_closure(modules)):
        total.update(f"{name}\n{_syntax(_file(name))}".encode())
    return total.hexdigest()[:16]


def import_closure(modules: tuple[str, ...]) -> set[str]:
    """The modules of this package that ``modules`` import, themselves included; without :data:`NO_NUMBERS`."""
    found: set[str] = set()
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        if name not in found and not name.startswith(NO_NUMBERS):
            found.add(name)
            waiting += imports(_file(name))
    return found


@cache
def imports(file: Path) -> tuple[str, ...]:
    """The modules of this package that a file imports when it runs, wherever in the file."""
    names: list[str] = []
    for node in _running(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return tuple(name for name in names if name.startswith("stablevsr.") and _is_module(name))


def _running(tree: ast.AST) -> list[ast.AST]:
    """All nodes of a module but those under ``if TYPE_CHECKING:``."""
    nodes: list[ast.AST] = []
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        nodes.append(node)
        types_only = isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"
        waiting += node.orelse if types_only else ast.iter_child_nodes(node)  # type: ignore[attr-defined]
    return nodes


@cache
def _syntax(file: Path) -> str:
    """A module's syntax tree as text, docstrings dropped; comments and layout are not in it."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = [s for s in node.body if not _is_text(s)]
    return ast.dump(tree)


def _is_text(statement: ast.stmt) -> bool:
    """Whether a statement is a string alone: a docstring, which does nothing."""
    value = statement.value if isinstance(statement, ast.Expr) else None
    return isinstance(value, ast.Constant) and isinstance(value.value, str)


def _is_module(name: str) -> bool:
    return _file(name).exists()


def _file(name: str) -> Path:
    base = PACKAGE.parent.joinpath(*name.split("."))
    return base / "__init__.py" if base.is_dir() else base.with_suffix(".py")


def embedded_weights() -> list[str]:
    """The tiny model's base weights (its TCM is trained by the study), as inputs of a rule."""
    return [str(PACKAGE / "assets" / "tiny" / part / "diffusion_pytorch_model.safetensors") for part in ("unet", "vae")]


def folder_hash(folder: Path) -> str:
    """sha256 over the configuration and weights in a diffusers folder."""
    total = hashlib.sha256()
    for file in sorted([*folder.glob("*.json"), *folder.glob("*.safetensors")]):
        if file.name in ("provenance.json",):  # says when and where, not what
            continue
        total.update(file.name.encode() + hashlib.sha256(file.read_bytes()).digest())
    return total.hexdigest()


def sources(*modules: str) -> list[str]:
    """The files of the import closure, as inputs of a rule."""
    return [str(_file(name)) for name in sorted(import_closure(modules))]
