"""``ro-crate-metadata.json``: what the files of a study are, what they were made with and from, as an RO-Crate 1.1.

The run is described by the profile Process Run Crate 0.5: one action, its software, its data and its results.
"""

from __future__ import annotations

import datetime
import json
import mimetypes
from pathlib import Path
from typing import Any
from urllib.parse import quote

from stablevsr.data.downloads import registry
from stablevsr.report.scores import read_json
from stablevsr.runtime.hashing import file_hash
from stablevsr.study.files import load_yaml
from stablevsr.study.paths import Paths

METADATA = "ro-crate-metadata.json"
SPECIFICATION = "https://w3id.org/ro/crate/1.1"
PROFILE = "https://w3id.org/ro/wfrun/process/0.5"
TYPES = {".md": "text/markdown", ".yaml": "application/yaml", ".cff": "application/yaml", ".tex": "text/x-tex"}

Entity = dict[str, Any]


def crate(paths: Paths, date: datetime.date) -> str:
    """The metadata of ``results/<study>`` with all its files, as JSON."""
    files = [_file(paths.results, file) for file in sorted(paths.results.rglob("*")) if _belongs(file)]
    made = read_json(paths.results / "provenance.json")
    sources, software, paper = _sources(paths), _software(made), _paper(paths.results / "CITATION.cff")
    licence = [entity for entity in files if entity["@id"] == "LICENSE"]
    root: Entity = {
        "@id": "./",
        "@type": "Dataset",
        "name": paths.study.spec.title,
        "description": paths.study.spec.description.strip() or paths.study.spec.title,
        "datePublished": date.isoformat(),
        "conformsTo": {"@id": PROFILE},
        "license": _references(licence)[0] if licence else "not stated",
        "hasPart": _references([*files, *sources]),
        "mentions": {"@id": "#run"},
        "citation": _references(paper),
    }
    action: Entity = {
        "@id": "#run",
        "@type": "CreateAction",
        "name": f"snakemake --config study={paths.study.name}",
        "instrument": {"@id": software["@id"]},
        "object": _references(sources),
        "result": _references(files),
    }
    descriptor: Entity = {
        "@id": METADATA,
        "@type": "CreativeWork",
        "conformsTo": {"@id": SPECIFICATION},
        "about": {"@id": "./"},
    }
    profile: Entity = {"@id": PROFILE, "@type": "CreativeWork", "name": "Process Run Crate", "version": "0.5"}
    graph = [descriptor, root, action, software, profile, *paper, *sources, *files]
    context = [f"{SPECIFICATION}/context", {"sha256": "https://schema.org/sha256"}]  # a term that 1.1 lacks
    return json.dumps({"@context": context, "@graph": graph}, indent=1, ensure_ascii=False) + "\n"


def _belongs(file: Path) -> bool:
    return file.is_file() and file.name not in (METADATA, ".snakemake_timestamp")


def _references(entities: list[Entity]) -> list[Entity]:
    return [{"@id": entity["@id"]} for entity in entities]


def _file(root: Path, file: Path) -> Entity:
    kind = TYPES.get(file.suffix) or mimetypes.guess_type(file.name)[0] or "text/plain"
    return {
        "@id": quote(file.relative_to(root).as_posix()),
        "@type": "File",
        "name": file.name,
        "contentSize": str(file.stat().st_size),
        "encodingFormat": kind,
        "sha256": file_hash(file),
    }


def _software(made: dict[str, Any]) -> Entity:
    """This package at the commit that rendered the study."""
    commit = made["code"]["commit"]
    return {
        "@id": f"#stablevsr-{commit or 'unknown'}",
        "@type": "SoftwareApplication",
        "name": "stablevsr",
        "version": commit or made["versions"]["stablevsr"],
        "softwareRequirements": [f"{name} {version}" for name, version in made["versions"].items() if version],
    }


def _sources(paths: Paths) -> list[Entity]:
    """The downloads that the test sets and the training sets of the study come from, with their licences."""
    names = dict.fromkeys(name for spec in paths.study.datasets_in_use() for name in spec.fetch)
    pages: dict[str, Entity] = {}
    for row in map(registry.get, names):
        pages.setdefault(row.page, {"@id": row.page, "@type": "Dataset", "name": row.purpose, "license": row.licence})
    return list(pages.values())


def _paper(citation: Path) -> list[Entity]:
    """The paper that CITATION.cff asks to cite."""
    if not citation.exists():
        return []
    work = load_yaml(citation)["preferred-citation"]
    authors = [f"{author['given-names']} {author['family-names']}" for author in work["authors"]]
    return [
        {
            "@id": work["url"],
            "@type": "ScholarlyArticle",
            "name": work["title"],
            "author": authors,
            "datePublished": str(work["year"]),
        }
    ]
