"""The registry of downloads, ``registry.yaml``: what each row is, its addresses, size and hash, and where it is stored.

Nothing slow is imported (no torch, no hub client), because ``stablevsr plan`` and ``doctor`` read the registry.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import yaml
from pydantic import Field, StringConstraints, model_validator

from stablevsr.data.downloads.contents import Contents, Inside, Strict
from stablevsr.runtime import parsing
from stablevsr.runtime.errors import UserError, near_miss

TABLE = Path(__file__).with_name("registry.yaml")

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Prefix = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{6,63}$")]


Address = Annotated[str, StringConstraints(pattern=r"^https?://[^/]+")]


class Published(Strict):
    """What the publisher states about a file: its size in bytes, its sha256, or the first digits of it."""

    size: int | None = Field(default=None, gt=0)
    sha256: Sha256 | None = None
    sha256_prefix: Prefix | None = None

    @property
    def largest(self) -> int | None:
        """More bytes than this are another file; None if nothing is known."""
        return self.size

    def mismatch(self, size: int, sha256: str) -> str | None:
        """How a file of this size and hash differs from the published one, as the end of a sentence; None if not."""
        if self.size not in (None, size):
            return f"it has {size} bytes where {self.size} are expected"
        if self.sha256 not in (None, sha256) or not sha256.startswith(self.sha256_prefix or ""):
            return f"its sha256 is {sha256} where {self.sha256 or f'{self.sha256_prefix}...'} is expected"
        return None


class IndexSource(Strict):
    """One file inside a distribution of the package index (:mod:`.index`)."""

    index: str  #: the distribution's name
    version: str
    sha256: Sha256  #: of the distribution
    member: Inside  #: its path in the distribution, in an sdist below the top folder
    member_sha256: Sha256  #: of the innermost member
    inner: list[Inside] = Field(
        default=[]
    )  #: zips inside ``member``, outermost first; the last entry is the file itself
    sdist: bool = False
    convolutions_sha256: Sha256 | None = None  #: of the safetensors file that a pickle of convolutions is converted to


class Unpack(Strict):
    """A zip, unpacked below ``into``; each entry's path is shortened to start at its first component in ``keep``."""

    how: Literal["unpack"]
    into: Inside
    outer: str | None = None  #: a folder between ``into`` and the contents if the zip was unpacked by hand
    keep: list[str] = Field(min_length=1)


class Pick(Strict):
    """The sequences of this row's contents, read out of the zips of other rows."""

    how: Literal["pick"]
    into: Inside
    outer: str | None = None
    sources: list[str] = Field(min_length=1)


class TorchHub(Strict):
    """One file in a folder of torch's hub cache, where torchvision (``checkpoints``) and pyiqa look for it."""

    how: Literal["torch_hub"]
    folder: Inside


class Cache(Strict):
    """One file in this package's own cache."""

    how: Literal["cache"]


class Hub(Strict):
    """Files of a hub repository at the commit given by the row's ``version``, in the hub client's cache."""

    how: Literal["hub"]
    repo: Annotated[str, StringConstraints(pattern=r"^[\w.-]+/[\w.-]+$")]
    files: dict[Inside, Published] = Field(min_length=1)

    @model_validator(mode="after")
    def _no_pickles(self) -> Hub:
        bad = [name for name in self.files if not name.endswith((".safetensors", ".json", ".txt"))]
        if bad:
            raise ValueError(f"only safetensors, json and txt files are taken from the hub, not {bad[0]}")
        return self


class Row(Published):
    """One row of the registry; ``about`` is the approximate size in bytes, ``urls`` the main address and mirrors."""

    name: str
    kind: Literal["dataset", "model", "weights"]
    purpose: str
    version: str
    licence: str
    page: Address
    urls: list[Address] = Field(default=[])
    about: int | None = Field(default=None, gt=0)
    source: IndexSource | None = None
    destination: Annotated[Unpack | Pick | TorchHub | Cache | Hub, Field(discriminator="how")]
    contents: list[Contents] = Field(default=[])

    @property
    def bytes(self) -> int:
        """The size to plan with: exact where published, else approximate; 0 if nothing is known."""
        return self.size or self.about or 0

    @property
    def largest(self) -> int | None:
        """More bytes than this are another file: than published, or than four times what is known approximately."""
        return self.size or (4 * self.about if self.about else None)

    @property
    def filename(self) -> str:
        """The last part of the main address, or of the path in the package index; else the row's name."""
        if self.urls:
            return PurePosixPath(urlsplit(self.urls[0]).path).name
        return PurePosixPath([self.source.member, *self.source.inner][-1]).name if self.source else self.name

    @model_validator(mode="after")
    def _complete(self) -> Row:
        if isinstance(self.destination, Unpack | TorchHub) and not self.urls:
            raise ValueError("needs at least one address under urls")
        if isinstance(self.destination, Cache) and not self.source:
            raise ValueError("needs a source in the package index")
        if isinstance(self.destination, Unpack | Pick) and not self.contents:
            raise ValueError("needs contents, to tell whether it is complete")
        if isinstance(self.destination, Hub) and not re.fullmatch(r"[0-9a-f]{40}", self.version):
            raise ValueError("version must be the full commit name of the hub repository")
        return self


def parse(text: str, origin: str = "registry") -> dict[str, Row]:
    """Read a registry from YAML. Raises :class:`UserError` that names ``origin``, the row and the key."""
    raw: dict[str, dict[str, Any]] = yaml.safe_load(text)
    rows = {
        name: parsing.parse(Row, {"name": name, **fields}, f"{origin}: row '{name}'") for name, fields in raw.items()
    }
    for row in rows.values():
        for source in row.destination.sources if isinstance(row.destination, Pick) else []:
            if source not in rows or not isinstance(rows[source].destination, Unpack):
                raise UserError(f"{origin}: row '{row.name}' picks from '{source}', which is no row with a zip")
    return rows


@lru_cache(maxsize=1)
def load() -> Mapping[str, Row]:
    """The packaged registry: rows by name, in the file's order."""
    return parse(TABLE.read_text(encoding="utf-8"), TABLE.name)


def get(name: str) -> Row:
    """The row called ``name``. Raises :class:`UserError` with the closest known name."""
    if name not in load():
        raise UserError(
            f"nothing to fetch is called '{name}'{near_miss(name, load())}: `stablevsr fetch --list` shows all"
        )
    return load()[name]


def is_hub_id(model: str) -> bool:
    """Whether a model's name has the form owner/name or owner/name@revision of a hub repository."""
    return re.fullmatch(r"[a-z0-9][\w.-]*/[a-z0-9][\w.-]*(@\w[\w./-]*)?", model, re.ASCII | re.IGNORECASE) is not None


def room(rows: Iterable[Row]) -> int:
    """The most bytes of disk that downloading ``rows`` takes: a zip counts twice, as it is kept until unpacked."""
    return sum(row.bytes * (2 if isinstance(row.destination, Unpack) else 1) for row in rows)


def cache_folder() -> Path:
    """This package's own cache folder, below ``XDG_CACHE_HOME``."""
    return Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "stablevsr"


def torch_hub_folder() -> Path:
    """Torch's hub cache by the same environment variables as ``torch.hub.get_dir``, without importing torch."""
    cache = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    return Path(os.environ.get("TORCH_HOME", str(Path(cache) / "torch"))).expanduser() / "hub"


def hub_snapshot(repo: str, revision: str) -> Path:
    """The folder of one commit of a repository in the hub client's cache."""
    from huggingface_hub import constants  # takes half a second, and only models need it

    return Path(constants.HF_HUB_CACHE) / f"models--{repo.replace('/', '--')}" / "snapshots" / revision


def index_path(row: Row) -> Path:
    """Where a row's file from the package index is stored."""
    converted = row.source is not None and row.source.convolutions_sha256 is not None
    return cache_folder() / "weights" / (f"{row.name}.safetensors" if converted else row.filename)


def local_path(name: str, data_root: Path) -> Path:
    """Where ``name`` is stored once it is downloaded. Raises :class:`UserError` for an unknown name.

    A dataset: the folder that its contents are relative to (``data_root/REDS``, also for REDS4;
    ``data_root/REDS/train`` if it was unpacked there by hand). Weights: the file in torch's hub cache or, from the
    package index, in this package's. A model: the snapshot folder of its pinned commit in the hub cache.
    """
    row = get(name)
    match row.destination:
        case TorchHub(folder=folder):
            published, converted = torch_hub_folder() / folder / row.filename, index_path(row)
            return converted if converted.is_file() and not published.is_file() else published
        case Cache():
            return index_path(row)
        case Hub(repo=repo):
            return hub_snapshot(repo, row.version)
        case Unpack(into=into, outer=outer) | Pick(into=into, outer=outer):
            plain = data_root / into
            first = PurePosixPath(row.contents[0].root).parts[0]
            by_hand = outer and not (plain / first).exists() and (plain / outer / first).exists()
            return plain / outer if outer and by_hand else plain
