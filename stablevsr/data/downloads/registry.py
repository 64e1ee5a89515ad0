"""The one table of everything that comes from the network: what it is, where from, how checked, where it lands.

The table itself is ``registry.yaml``; the models here refuse a misspelt key, a broken hash or an address that is not
http(s). Nothing is imported that is slow to import (no torch, no hub client), because ``stablevsr --help``, ``plan``
and ``doctor`` ask this module what is present. Presence means: a dataset has every sequence with every frame, a weight
file has its published size, a model's pinned revision has every file.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, TypeAlias
from urllib.parse import urlsplit

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from stablevsr.runtime.errors import UserError, near_miss
from stablevsr.runtime.parsing import explain

TABLE = Path(__file__).with_name("registry.yaml")

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Prefix = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{6,63}$")]


def _web_address(url: str) -> str:
    if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
        raise ValueError(f"{url!r} is no http or https address")
    return url


def _inside(path: str) -> str:
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or ".." in parts or "\\" in path:
        raise ValueError(f"{path!r} must be a relative path that stays inside its folder")
    return path


Address = Annotated[str, AfterValidator(_web_address)]
Inside = Annotated[str, AfterValidator(_inside)]


class Strict(BaseModel):
    """Unknown keys are refused, nothing changes after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Layout(Strict):
    """Sequences of PNG frames below a dataset's folder: ``root/<sequence>/<frame>.png``.

    The sequences are written out (``000-239`` stands for 240 names) or stand one a line in list files, whose number of
    lines is known; a listed name may have a slash (``00001/0266``).
    """

    root: Inside
    sequences: list[str] = []
    lists: dict[Inside, int] = {}
    frames: int = Field(gt=0)
    width: int = Field(gt=0)
    height: int = Field(gt=0)

    def named(self) -> list[str]:
        """The sequences written out in the table (none if list files name them)."""
        return [name for item in self.sequences for name in _expand(item)]


def _expand(item: str) -> Iterator[str]:
    span = re.fullmatch(r"(\d+)-(\d+)", item)
    if span is None:
        yield item
        return
    first, last = span.groups()
    for number in range(int(first), int(last) + 1):
        yield str(number).zfill(len(first))


class Unpack(Strict):
    """A zip, unpacked below ``into``: every entry from its first component in ``keep`` on, without what precedes it."""

    how: Literal["unpack"]
    into: Inside
    outer: str | None = None  #: a level that archives unpacked by hand may have between ``into`` and the layout's root
    keep: list[str] = Field(min_length=1)


class Pick(Strict):
    """The sequences of this row's layout, read out of the zips of other rows."""

    how: Literal["pick"]
    into: Inside
    outer: str | None = None
    sources: list[str] = Field(min_length=1)


class TorchHub(Strict):
    """One file in a folder of torch's hub cache, where torchvision (``checkpoints``) and pyiqa look for it."""

    how: Literal["torch_hub"]
    folder: Inside


class HubFile(Strict):
    """What is published about one file of a hub repository."""

    size: int | None = None
    sha256: Sha256 | None = None


class Hub(Strict):
    """Files of a hub repository at the revision given by the row's ``version``, in the hub client's cache."""

    how: Literal["hub"]
    repo: Annotated[str, StringConstraints(pattern=r"^[\w.-]+/[\w.-]+$")]
    files: dict[Inside, HubFile] = Field(min_length=1)

    @model_validator(mode="after")
    def _no_pickles(self) -> Hub:
        bad = [name for name in self.files if not name.endswith((".safetensors", ".json", ".txt"))]
        if bad:
            raise ValueError(f"only safetensors, json and txt files are taken from the hub, not {bad[0]}")
        return self


class Row(Strict):
    """One row of the table; sizes in bytes. ``urls``: the main address, then mirrors of the same bytes."""

    name: str
    kind: Literal["dataset", "model", "weights"]
    purpose: str
    version: str
    licence: str
    page: Address
    urls: list[Address] = []
    size: int | None = Field(default=None, gt=0)
    about: int | None = Field(default=None, gt=0)
    sha256: Sha256 | None = None
    sha256_prefix: Prefix | None = None
    lands: Annotated[Unpack | Pick | TorchHub | Hub, Field(discriminator="how")]
    layout: list[Layout] = []

    @property
    def bytes(self) -> int:
        """The size to plan with: exact where published, else rough; 0 if nothing is known."""
        return self.size or self.about or 0

    @property
    def filename(self) -> str:
        """The last part of the main address; the row's name where there is no address of its own."""
        return PurePosixPath(urlsplit(self.urls[0]).path).name if self.urls else self.name

    @model_validator(mode="after")
    def _complete(self) -> Row:
        if isinstance(self.lands, Unpack | TorchHub) and not self.urls:
            raise ValueError("needs at least one address under urls")
        if isinstance(self.lands, Unpack | Pick) and not self.layout:
            raise ValueError("needs a layout, or nobody can tell whether it is complete")
        if isinstance(self.lands, Hub) and not re.fullmatch(r"[0-9a-f]{40}", self.version):
            raise ValueError("version must be the full commit name of the hub repository")
        return self


Table: TypeAlias = Mapping[str, Row]


def parse(text: str, origin: str = "registry") -> dict[str, Row]:
    """Read a table from YAML. Raises :class:`UserError` that names ``origin``, the row and the key."""
    raw: dict[str, dict[str, Any]] = yaml.safe_load(text)
    rows: dict[str, Row] = {}
    for name, fields in raw.items():
        try:
            rows[name] = Row(name=name, **fields)
        except ValidationError as error:
            raise UserError(f"{origin}: row '{name}': {explain(error, Row)}") from error
    for row in rows.values():
        for source in row.lands.sources if isinstance(row.lands, Pick) else []:
            if source not in rows or not isinstance(rows[source].lands, Unpack):
                raise UserError(f"{origin}: row '{row.name}' picks from '{source}', which is no row with a zip")
    return rows


@lru_cache(maxsize=1)
def _packaged() -> dict[str, Row]:
    return parse(TABLE.read_text(encoding="utf-8"), TABLE.name)


def load() -> dict[str, Row]:
    """The packaged table, by name, in its order."""
    return dict(_packaged())


def get(name: str, table: Table | None = None) -> Row:
    """The row called ``name``. Raises :class:`UserError` with the closest known name."""
    rows = load() if table is None else table
    if name not in rows:
        raise UserError(
            f"nothing to fetch is called '{name}'{near_miss(name, rows)}: `stablevsr fetch --list` shows all"
        )
    return rows[name]


def is_hub_id(model: str) -> bool:
    """Whether a model's name has the form of a hub repository, owner/name; ``/x/y`` and ``./y`` are folders."""
    return model.count("/") == 1 and not model.startswith(("/", "."))


def room(rows: Iterable[Row]) -> int:
    """Bytes of disk that fetching ``rows`` at once takes: a zip is there twice while it is unpacked."""
    return sum(row.bytes * (2 if isinstance(row.lands, Unpack) else 1) for row in rows)


def torch_hub_folder() -> Path:
    """Torch's hub cache by the same environment variables as ``torch.hub.get_dir``, without importing torch."""
    cache = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    return Path(os.environ.get("TORCH_HOME", str(Path(cache) / "torch"))).expanduser() / "hub"


def _hub_snapshot(repo: str, revision: str) -> Path:
    from huggingface_hub import constants  # half a second, and only models need it

    return Path(constants.HF_HUB_CACHE) / f"models--{repo.replace('/', '--')}" / "snapshots" / revision


def local_path(name: str, data_root: Path, table: Table | None = None) -> Path:
    """Where ``name`` lies once fetched.

    A dataset: the folder that its layout starts in (``data_root/REDS``, also for REDS4; ``data_root/REDS/train`` if it
    was unpacked there by hand). Weights: the file in torch's hub cache. A model: its pinned snapshot folder in the hub
    cache, ready for ``from_pretrained``. Raises :class:`UserError` for an unknown name.
    """
    row = get(name, table)
    match row.lands:
        case TorchHub(folder=folder):
            return torch_hub_folder() / folder / row.filename
        case Hub(repo=repo):
            return _hub_snapshot(repo, row.version)
        case Unpack(into=into, outer=outer) | Pick(into=into, outer=outer):
            plain = data_root / into
            first = PurePosixPath(row.layout[0].root).parts[0]
            by_hand = outer is not None and not (plain / first).exists() and (plain / outer / first).exists()
            return plain / outer if by_hand and outer else plain


def is_present(name: str, data_root: Path, table: Table | None = None) -> bool:
    """Whether ``name`` is complete on this machine (counts frames and compares sizes; hashes nothing)."""
    from stablevsr.data.downloads.archives import layout_fault

    row = get(name, table)
    path = local_path(name, data_root, table)
    match row.lands:
        case TorchHub():
            return _whole(path, row.size)
        case Hub(files=files):
            return all(_whole(path / name, published.size) for name, published in files.items())
        case _:
            return all(layout_fault(layout, path, look_inside=False) is None for layout in row.layout)


def _whole(path: Path, size: int | None) -> bool:
    return path.is_file() and size in (None, path.stat().st_size)
