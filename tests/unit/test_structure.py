"""The house: which package may import which, no circles, nothing loose at the top (DESIGN: the layout)."""

import ast
from pathlib import Path

import pytest

import stablevsr

PACKAGE = Path(stablevsr.__file__).parent
#: From bottom to top: a package imports from itself and from those before it.
ORDER = (
    "runtime", "data", "method", "metrics", "baselines", "training", "study", "upscale", "report", "bench", "cli",
)  # fmt: skip


def modules():
    return {".".join(p.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): p
            for p in PACKAGE.rglob("*.py")}  # fmt: skip


def imported(file, known):
    """What a file imports of the package: at the top, inside functions, for type checkers.

    A name that is taken from the top of the package is listed as ``stablevsr.NAME``.
    """
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if node.level:
                yield f"a relative import of {module}"
            elif module.split(".")[0] == "stablevsr":
                for alias in node.names:
                    full = f"{module}.{alias.name}"
                    yield full if full in known or module == "stablevsr" else module


@pytest.fixture(scope="module")
def graph():
    known = modules()
    # the two entries at the top, `import stablevsr` and `python -m stablevsr`, lead down to everything
    below = {name: file for name, file in known.items() if name not in ("stablevsr", "stablevsr.__main__")}
    return {name: set(imported(file, known)) - {name} for name, file in below.items()}


def test_text_files_are_read_and_written_as_utf8():
    """Not in the encoding of the locale."""
    unnamed = []
    for file in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            named = {keyword.arg for keyword in node.keywords}
            of_path = isinstance(node.func, ast.Attribute)
            text = (name in ("read_text", "write_text") and of_path) or "text" in named or "universal_newlines" in named
            if text and "encoding" not in named:
                unnamed.append(f"{file.name}:{node.lineno}")
    assert not unnamed


def test_nothing_but_packages_lies_at_the_top():
    assert {p.name for p in PACKAGE.glob("*.py")} == {"__init__.py", "__main__.py"}
    packages = {p.name for p in PACKAGE.iterdir() if (p / "__init__.py").exists()}
    assert packages == set(ORDER)


def test_imports_name_the_module_that_they_need(graph):
    """Neither these tests nor fingerprints follow relative imports, or ``from stablevsr import StableVSRPipeline``."""
    strange = {
        f"{name} -> {other}"
        for name, others in graph.items()
        for other in others - set(graph) - {"stablevsr.__version__"}
    }
    assert strange == set()


def test_imports_point_down(graph):
    upward = [
        f"{name} -> {other}"
        for name, others in graph.items()
        for other in others & set(graph)
        if ORDER.index(other.split(".")[1]) > ORDER.index(name.split(".")[1])
    ]
    assert upward == []


def test_no_two_modules_import_each_other_directly_or_through_others(graph):
    circles = []

    def visit(name, trail):
        if name in trail:
            circles.append(" -> ".join([*trail[trail.index(name) :], name]))
        elif name not in done:
            for other in sorted(graph[name] & set(graph)):
                visit(other, [*trail, name])
            done.add(name)

    done = set()
    for name in sorted(graph):
        visit(name, [])
    assert circles == []
