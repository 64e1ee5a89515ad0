"""``stablevsr upscale``: a video, a folder of frames or a folder of such folders, upscaled x4 or by another scale.

All state is kept in ``.OUT.partial`` next to the output, in a folder named by a digest of the input, the settings, the
model and the code. The same command resumes where it was stopped; a different command does not use that state. The
output appears complete at the end, and the work folder is removed.

Noise is keyed by (seed, name of the sequence, frame, step); the name of a single clip is empty. So a sequence does not
depend on the others, nor a frame on where a run was resumed.
"""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path
from typing import Any

from stablevsr.data.degradation import SCALE
from stablevsr.data.downloads.download import DISK_FULL
from stablevsr.data.frames import list_frames
from stablevsr.runtime.devices import device_of
from stablevsr.runtime.errors import UserError
from stablevsr.runtime.hashing import content_hash, digest, file_hash
from stablevsr.runtime.io import sync_folder, write_text
from stablevsr.runtime.locks import LOCK, single_writer
from stablevsr.study.fingerprint import fingerprint
from stablevsr.training.adaptation import check_clip
from stablevsr.upscale.clips import Size, SizedClip, check_free, check_places, kind_of, open_folder
from stablevsr.upscale.engines import engine_of
from stablevsr.upscale.options import UpscaleOptions
from stablevsr.upscale.scales import check_area, input_size, output_size, resized
from stablevsr.upscale.video import VideoInfo, check_encoding, encode, extract, odd_sides, probe


def upscale(source: Path, out: Path, options: UpscaleOptions) -> None:
    """Upscale ``source`` to ``out`` by ``options.scale``. A second call with the same arguments resumes the first.

    Raises:
        UserError: the input, the output, an option or the model folder is wrong (before a model is loaded); a video is
            damaged after its first frame; the disk is full or the GPU's memory too small.
    """
    options.check()
    run = _UpscaleRun(source, out, options)
    import torch

    try:
        with single_writer(run.work):
            if not run.was_delivered():
                run.check_free()  # again: it may have waited for another process with this output
                run.make()
                run.deliver()
    except torch.OutOfMemoryError as error:
        raise UserError(
            f"the frames of {source} do not fit into the GPU's memory: --precision bf16 needs half of it, "
            "--device cpu none"
        ) from error
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        raise UserError(
            f"{error.strerror} while {out} was made: free some space on its disk, then the same command goes on "
            f"where it stopped (its work is kept in {run.work})"
        ) from error
    print(f"{out}: done", file=sys.stderr)


class _UpscaleRun:
    """One call with checked arguments: nothing is loaded or written before :meth:`make`."""

    def __init__(self, source: Path, out: Path, options: UpscaleOptions) -> None:
        self.source, self.out, self.options = source, out, options
        self.kind = kind_of(source)
        check_places(source, out, self.kind)
        self.work = out.with_name(f".{out.name}.partial")
        self.mark = self.work / "delivered"  # written just before the result is moved to the output
        if not self.mark.exists():  # else a run was killed after that, and ``out`` is its result
            check_free(out, self.kind)
        self.video = probe(source) if self.kind == "video" else None
        if self.video is None:
            self.clips = open_folder(source, self.kind)
            for clip in self.clips:
                check_area(clip.height, clip.width, self._size(clip), source)
                self._check_adaptable(clip, source / clip.name)
        else:
            size = self._size(self.video)
            check_area(self.video.height, self.video.width, size, source)
            check_encoding(source, self.video, size, out)
            for note in (*self.video.notes, *odd_sides(size)):
                print(f"{source}: {note}", file=sys.stderr)
        self.engine = engine_of(options, device_of(options.device), self.work / "adapted")
        self.key = self._key()

    def _key(self) -> str:
        """A digest of everything that the frames depend on: input, settings, model, code, device."""
        if self.video is None:
            content: list[Any] = [[c.name, [file.name for file in c.files], content_hash(c.files)] for c in self.clips]
        else:
            content = [file_hash(self.source)]
        return digest([content, self.engine.identity(), self.options.scale, fingerprint("stablevsr.upscale.scales")])

    def _size(self, of: SizedClip | VideoInfo) -> Size:
        """The size of a clip's result."""
        return output_size(of.height, of.width, self.options.scale)

    def _check_adaptable(self, clip: SizedClip, where: Path) -> None:
        if self.options.adapt:
            check_clip(len(clip.files), clip.height, clip.width, where)

    def _result(self, key: str) -> Path:
        """The finished result in the work folder."""
        return self.work / key / ("frames" if self.video is None else f"result{self.out.suffix.lower()}")

    def check_free(self) -> None:
        """Raise :class:`UserError` if the output exists, and leave no empty work folder then."""
        try:
            check_free(self.out, self.kind)
        except UserError:
            self._remove_if_empty()
            raise

    def make(self) -> None:
        """Make the complete result in the work folder."""
        place = self.work / self.key
        if self.video is not None:
            try:
                timings = extract(self.source, self.video, place / "lr")
                files = tuple(list_frames(place / "lr"))
                self.clips = [SizedClip("", files, self.video.height, self.video.width)]
                self._check_adaptable(self.clips[0], self.source)
            except UserError:
                self._remove_refused(place)
                raise
        made = self._make_frames(place)
        if self.video is not None:
            print(f"{self.out}: encoding", file=sys.stderr)
            size = (made[0].height, made[0].width)
            encode(self.source, self.video, size, made[0].files, timings, self._result(self.key))

    def _remove_refused(self, place: Path) -> None:
        """Remove all that a refused video left, and nothing of what other commands with this output left."""
        shutil.rmtree(place, ignore_errors=True)  # not there if the first frame was refused
        self._remove_if_empty()

    def _remove_if_empty(self) -> None:
        if self.work.is_dir() and not [path for path in self.work.iterdir() if path.name != LOCK]:
            shutil.rmtree(self.work)

    def _make_frames(self, place: Path) -> list[SizedClip]:
        """The passes, and the down-scaling after them (:mod:`.scales`); the result is in ``place/frames``."""
        clips, title = self.clips, self.out.name
        sizes = [self._size(clip) for clip in clips]
        twice = self.options.scale > SCALE
        if twice:
            first = self._enlarge(clips, place / "first", f"{title}, pass 1 of 2")
            clips = resized(first, [input_size(size) for size in sizes], place / "second_lr")
            title += ", pass 2 of 2"
        first_clips = self.clips if twice else None
        if sizes == [(SCALE * clip.height, SCALE * clip.width) for clip in clips]:
            return self._enlarge(clips, place, title, first_clips)
        return resized(self._enlarge(clips, place / "last", title, first_clips), sizes, place / "frames")

    def _enlarge(
        self, clips: list[SizedClip], place: Path, title: str, first_clips: list[SizedClip] | None = None
    ) -> list[SizedClip]:
        """One pass: clips that are 4 times as large."""
        made = self.engine.make(clips, place, title, first_clips)
        return [
            SizedClip(clip.name, tuple(files), SCALE * clip.height, SCALE * clip.width)
            for clip, files in zip(clips, made, strict=True)
        ]

    def deliver(self) -> None:
        """Move the result to the output in one step, and remove the work folder."""
        result = self._result(self.key)
        for stray in result.rglob(".*.part"):  # half a frame of a killed run
            stray.unlink()
        check_free(self.out, self.kind)  # again: it may have come while the work ran
        write_text(self.mark, self.key)
        result.replace(self.out)  # also replaces an empty folder
        sync_folder(self.out.parent)
        self._remove_work()

    def was_delivered(self) -> bool:
        """Whether a killed run had delivered this result. Removes the work folder of any run that had delivered."""
        if not self.mark.exists():
            return False
        key = self.mark.read_text(encoding="utf-8", errors="replace")
        if not re.fullmatch("[0-9a-f]{16}", key):
            print(f"{self.mark} is damaged: removed, the work goes on", file=sys.stderr)
            self.mark.unlink()
            return False
        if self._result(key).exists():
            return False
        same = key == self.key and self.out.exists()
        self._remove_work()
        return same

    def _remove_work(self) -> None:
        """Remove the work folder, the mark last: after a kill in between, it tells that the rest is to be removed."""
        for path in self.work.iterdir():
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            elif path not in (self.mark, self.work / LOCK):
                path.unlink()
        shutil.rmtree(self.work, ignore_errors=True)
