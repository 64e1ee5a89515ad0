"""Video files in and out (PyAV): frames as RGB with their times, and x4 frames back into H.264 beside the same audio.

Kept of the source: every frame's time (a variable rate too), rotation, pixel aspect, colour matrix and range, audio
streams (copied, not re-encoded), title and other tags. Video is written by libx264, 8-bit 4:2:0.
"""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import IO, Any

import av
import numpy as np

from stablevsr.data.degradation import SCALE
from stablevsr.data.frames import Frame, read_frame, write_frame
from stablevsr.runtime.errors import UserError
from stablevsr.runtime.io import write_text
from stablevsr.upscale.clips import check_size

QUALITY = {"crf": "14", "preset": "slow"}  #: close to invisible loss
CONTAINERS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska"}
EXACT = {"fflags": "bitexact"}  #: the same frames give the same bytes: no random numbers in Matroska files
FULL, LIMITED = 2, 1  #: colour ranges as FFmpeg counts them
BT709, BT601, UNKNOWN = 1, 6, 2  #: colour matrices, primaries and transfers, likewise
HD_ROWS = 720  #: players take untagged video of this height for BT.709, smaller for BT.601
#: FFmpeg's colour matrices that its scaler knows, and the scaler's number for each.
SCALER_MATRIX = {1: 1, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9, 10: 9}
PRECISE = int(
    av.video.reformatter.Interpolation.BICUBIC
    | av.video.reformatter.Interpolation.ACCURATE_RND
    | av.video.reformatter.Interpolation.FULL_CHR_H_INT
    | av.video.reformatter.Interpolation.FULL_CHR_H_INP
)


@dataclass(frozen=True)
class VideoInfo:
    """The properties of a video file that its enlarged copy repeats."""

    height: int
    width: int
    rate: Fraction  #: frames a second, on average
    time_base: Fraction  #: seconds of one unit of a frame's time
    matrix: int  #: RGB to YCbCr, as FFmpeg counts; named even where the source leaves it to the player's guess
    range: int  #: FULL or LIMITED
    primaries: int
    transfer: int
    aspect: Fraction | None  #: of a pixel
    display: tuple[int, ...] | None  #: the nine numbers of the display matrix: rotation and flips
    tags: dict[str, str]
    notes: tuple[str, ...]  #: warnings for the user


@dataclass(frozen=True)
class Timing:
    """When a frame is shown and for how long, in units of the video's time base."""

    start: int
    duration: int


def probe(path: Path) -> VideoInfo:
    """Look at a video file and its first frame. Raises :class:`UserError` if it is no video that can be read."""
    try:
        with av.open(str(path)) as container:
            stream = _video_stream(container, path)
            frame = next(container.decode(stream), None)
            if frame is None:
                raise UserError(f"video {path} holds no frame")
            check_size(frame.height, frame.width, path)
            return _describe(container, stream, frame)
    except (av.FFmpegError, OSError) as error:
        raise UserError(f"video {path} cannot be read ({_reason(error)}): the file is damaged or no video") from error


def _reason(error: BaseException) -> str:
    return str(getattr(error, "strerror", None) or error)


def _video_stream(container: Any, path: Path) -> Any:
    # FFmpeg renders text files as teletype pictures and takes a single image for a video of one frame
    if container.format.name in ("tty", "image2") or container.format.name.endswith("_pipe"):
        raise UserError(f"{path} is no video")
    for stream in container.streams.video:
        if not stream.disposition & av.stream.Disposition.attached_pic:
            return stream
    raise UserError(f"{path} holds no video")


def _describe(container: Any, stream: Any, frame: Any) -> VideoInfo:
    is_rgb = _is_rgb(frame)
    matrix = int(frame.colorspace)
    if is_rgb or matrix not in SCALER_MATRIX:
        matrix = BT709 if is_rgb or frame.height >= HD_ROWS else BT601
    full = not is_rgb and (frame.color_range == FULL or frame.format.name.startswith("yuvj"))
    rate = stream.average_rate or stream.guessed_rate or Fraction(25)
    time_base = stream.time_base or 1 / rate
    display = frame.side_data.get("DISPLAYMATRIX")
    return VideoInfo(
        frame.height,
        frame.width,
        Fraction(rate),
        Fraction(time_base),
        matrix,
        FULL if full else LIMITED,
        int(frame.color_primaries),
        int(frame.color_trc),
        stream.sample_aspect_ratio or None,
        struct.unpack("<9i", bytes(display)) if display is not None else None,
        {k: v for k, v in container.metadata.items() if k.lower() not in _CONTAINER_TAGS},
        tuple(_notes(frame)),
    )


def _is_rgb(frame: Any) -> bool:
    return bool(frame.format.is_rgb or frame.format.has_palette)


#: Tags that describe the container and not the content; the new container writes its own.
_CONTAINER_TAGS = ("major_brand", "minor_version", "compatible_brands", "encoder")


def _notes(frame: Any) -> Iterator[str]:
    if frame.format.components[0].bits > 8:
        yield f"its {frame.format.components[0].bits} bits a channel are rounded to 8"
    if frame.interlaced_frame:
        yield "it is interlaced: combed edges are enlarged like any other, deinterlace it first"


def decode(path: Path, info: VideoInfo) -> Iterator[tuple[Frame, Timing]]:
    """All frames, uint8 RGB (h, w, 3), with their times (strictly rising; made up from the rate where missing).

    Raises :class:`UserError` that names the frame which is damaged, transparent or of another size.
    """
    number, before = 0, None
    try:
        with av.open(str(path)) as container:
            stream = _video_stream(container, path)
            stream.thread_type = "AUTO"
            for frame in container.decode(stream):
                if (frame.height, frame.width) != (info.height, info.width):
                    raise UserError(f"video {path} changes to {frame.width}x{frame.height} at frame {number}: split it")
                timing = _timing(frame, info, before)
                yield _to_rgb(frame, info, f"{path}, frame {number}"), timing
                number, before = number + 1, timing
            declared = stream.frames
    except av.FFmpegError as error:
        raise UserError(f"video {path} is damaged after frame {number} ({_reason(error)}): repair or cut it") from error
    if number < declared * TRUNCATED:
        raise UserError(f"video {path} is cut off: {number} of its {declared} frames can be read")


TRUNCATED = 0.9  #: of the declared frames; a few may be missing by right, hidden by an edit list


def _timing(frame: Any, info: VideoInfo, before: Timing | None) -> Timing:
    usual = max(1, round(1 / info.rate / info.time_base))
    start = frame.pts
    if start is None:
        start = 0 if before is None else before.start + before.duration
    if before is not None:
        start = max(start, before.start + 1)
    return Timing(start, frame.duration or usual)


def _to_rgb(frame: Any, info: VideoInfo, where: str) -> Frame:
    has_alpha = any(component.is_alpha for component in frame.format.components)
    if has_alpha and int(frame.to_ndarray(format="rgba")[..., 3].min()) < 255:
        raise UserError(f"{where} has transparent pixels: flatten the video onto a background first")
    if _is_rgb(frame):
        return np.asarray(frame.to_ndarray(format="rgb24"))
    rgb = frame.reformat(
        format="rgb24",
        src_colorspace=SCALER_MATRIX[info.matrix],
        src_color_range=info.range,
        dst_color_range=FULL,
        interpolation=PRECISE,
    )
    return np.asarray(rgb.to_ndarray())


def extract(path: Path, info: VideoInfo, folder: Path) -> list[Timing]:
    """Write all frames as ``folder/00000000.png`` and on; a second call only reads the times back.

    Raises :class:`UserError` as :func:`decode` does; OSError if the disk is full.
    """
    times = folder / "times.json"
    if not times.exists():
        timings = []
        for number, (frame, timing) in enumerate(decode(path, info)):
            write_frame(folder / f"{number:08d}.png", frame)
            timings.append([timing.start, timing.duration])
        write_text(times, json.dumps(timings))
    return [Timing(*pair) for pair in json.loads(times.read_text())]


def rehearse(source: Path, info: VideoInfo, out: Path) -> None:
    """Write one frame and the first audio packets into memory, as :func:`encode` will write ``out``.

    Raises :class:`UserError` if the container cannot hold the audio, or the encoder not the size, before any work.
    """
    black = np.zeros((info.height * SCALE, info.width * SCALE, 3), np.uint8)
    try:
        _write(io.BytesIO(), out, source, info, iter([black]), [Timing(0, 1)], all_audio=False)
    except (av.FFmpegError, ValueError) as error:
        hint = "" if out.suffix.lower() == ".mkv" else ": try .mkv, which holds more kinds of audio"
        raise UserError(
            f"{source} cannot be written as {out.suffix}, {SCALE} times as large and with its audio "
            f"({_reason(error)}){hint}"
        ) from error


def encode(source: Path, info: VideoInfo, frames: list[Path], timings: list[Timing], out: Path) -> None:
    """Write the x4 frames (image files) as a video beside the audio of ``source``; whole or not at all.

    Raises OSError if the disk is full.
    """
    part = out.with_name(f".{out.name}.part")
    # By name: a Python stream that fails while FFmpeg closes the file would hide why
    _write(str(part), out, source, info, map(read_frame, frames), timings)
    part.replace(out)


def _write(
    target: str | IO[bytes], out: Path, source: Path, info: VideoInfo, frames: Iterator[Frame], timings: list[Timing],
    all_audio: bool = True,
) -> None:  # fmt: skip
    how: dict[str, Any] = {"format": CONTAINERS[out.suffix.lower()], "container_options": EXACT}
    with av.open(str(source)) as original, av.open(target, "w", **how) as made:
        made.metadata.update(info.tags)
        video = _video_track(made, info)
        audio = _AudioCopy(original, made)
        for frame, timing in zip(frames, timings, strict=True):
            audio.up_to(timing.start * info.time_base)
            made.mux(video.encode(_to_yuv(frame, info, timing)))
        if all_audio:
            audio.up_to(None)
        rest = video.encode()
        rest[-1].duration = timings[-1].duration  # the others last until the next begins
        made.mux(rest)


def _video_track(made: Any, info: VideoInfo) -> Any:
    # Without B-frames, frames are stored in display order, and a variable rate survives in every container
    video = made.add_stream("libx264", rate=info.rate, options={**QUALITY, "bf": "0"})
    video.width, video.height, video.pix_fmt = info.width * SCALE, info.height * SCALE, "yuv420p"
    video.time_base = video.codec_context.time_base = info.time_base
    context = video.codec_context
    context.colorspace, context.color_range = info.matrix, info.range
    context.color_primaries, context.color_trc = info.primaries, info.transfer
    if info.aspect:
        context.sample_aspect_ratio = info.aspect
    if info.display:
        video.set_display_matrix(info.display)
    return video


def _to_yuv(frame: Frame, info: VideoInfo, timing: Timing) -> Any:
    picture = av.VideoFrame.from_ndarray(frame, format="rgb24").reformat(
        format="yuv420p",
        src_color_range=FULL,
        dst_colorspace=SCALER_MATRIX[info.matrix],
        dst_color_range=info.range,
        interpolation=PRECISE,
    )
    picture.pts, picture.time_base, picture.duration = timing.start, info.time_base, timing.duration
    return picture


class _AudioCopy:
    """Copies the packets of all audio streams, in step with the video so that nothing piles up in memory."""

    def __init__(self, original: Any, made: Any) -> None:
        self._made = made
        self._tracks = {s.index: made.add_stream_from_template(s) for s in original.streams.audio}
        for stream in original.streams.audio:
            self._tracks[stream.index].metadata.update(stream.metadata)
        self._packets = original.demux(*original.streams.audio) if self._tracks else iter(())
        self._next = self._following()

    def up_to(self, seconds: Fraction | None) -> None:
        """Copy what begins before ``seconds``; None: all that is left."""
        while self._next is not None and (seconds is None or self._next.dts * self._next.time_base <= seconds):
            self._next.stream = self._tracks[self._next.stream.index]
            self._made.mux(self._next)
            self._next = self._following()

    def _following(self) -> Any:
        return next((packet for packet in self._packets if packet.dts is not None), None)
