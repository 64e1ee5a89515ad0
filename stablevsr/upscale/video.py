"""Video files in and out (PyAV): decoding to RGB frames with their times, and encoding enlarged frames as H.264.

The output keeps every frame's time (also at a variable rate), rotation, pixel aspect, colour matrix and range, the
audio streams (copied without encoding), the title and other tags. Video is written by libx264 with 8 bits, in 4:2:0, or
in 4:4:4 if a side is odd.
"""

from __future__ import annotations

import heapq
import io
import json
import os
import struct
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import IO, Any

import av
import numpy as np

from stablevsr.data.frames import Frame, is_whole, read_frame, write_frame
from stablevsr.runtime.errors import UserError
from stablevsr.runtime.io import write_text
from stablevsr.upscale.clips import VIDEO_OUT, Size, check_size
from stablevsr.upscale.timings import Timing, cut_off

#: A loss that is hardly visible. Without B-frames, frames are stored in display order, and a variable rate survives in
#: every container.
ENCODER = {"crf": "14", "preset": "slow", "bf": "0"}
PIXEL_FORMAT = "yuv420p"  #: that every player shows
EXACT = {"fflags": "+bitexact"}  #: the same frames give the same bytes, without random numbers in Matroska files
TRANSLATION = (6, 7)  #: the numbers of a display matrix that count pixels
FULL, LIMITED = 2, 1  #: FFmpeg's numbers of colour ranges
LARGEST_SIDE = 16384  #: of libx264, in pixels
BT709, BT601 = 1, 6  #: FFmpeg's numbers of colour matrices
HD_ROWS = 720  #: players show untagged video as BT.709 from this height on, and smaller video as BT.601
#: FFmpeg's colour matrices that its scaler supports, and the scaler's number of each.
SCALER_MATRIX = {1: 1, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9, 10: 9}
PRECISE = int(
    av.video.reformatter.Interpolation.BICUBIC
    | av.video.reformatter.Interpolation.ACCURATE_RND
    | av.video.reformatter.Interpolation.FULL_CHR_H_INT
    | av.video.reformatter.Interpolation.FULL_CHR_H_INP
)
#: Tags that describe the container and not the content; the new container has others.
CONTAINER_TAGS = ("major_brand", "minor_version", "compatible_brands", "encoder")


@dataclass(frozen=True)
class VideoInfo:
    """The properties of a video file that its enlarged copy keeps."""

    height: int
    width: int
    rate: Fraction  #: frames a second, on average
    time_base: Fraction  #: seconds of one unit of a frame's time
    matrix: int  #: RGB to YCbCr, FFmpeg's number; where the source names none, the one that players assume
    range: int  #: FULL or LIMITED
    primaries: int
    transfer: int
    aspect: Fraction | None  #: of a pixel
    display: tuple[int, ...] | None  #: the nine numbers of the display matrix: rotation and flips
    tags: dict[str, str]
    notes: tuple[str, ...]  #: warnings for the user


def probe(path: Path) -> VideoInfo:
    """The properties of a video file, from its header and first frame. Raises :class:`UserError` if unreadable."""
    try:
        with _open(path) as container:
            stream = _video_stream(container, path)
            frame = next(container.decode(stream), None)
            if frame is None:
                raise UserError(f"video {path} holds no frame")
            check_size(frame.height, frame.width, path)
            return _describe(container, stream, frame)
    except (av.FFmpegError, OSError) as error:
        raise UserError(f"video {path} cannot be read ({_reason(error)}): it is damaged or not a video") from error


def _open(path: Path) -> Any:
    return av.open(_address(path), metadata_errors="replace")


def _address(path: Path) -> str:
    """A path for FFmpeg, which takes it as UTF-8, and what is before a colon for a protocol."""
    return "file:" + os.fsencode(path).decode("utf-8", "surrogateescape")


def _reason(error: BaseException) -> str:
    return str(getattr(error, "strerror", None) or error)


def _video_stream(container: Any, path: Path) -> Any:
    # FFmpeg also opens text files (as teletype pictures) and single images (as videos of one frame)
    if container.format.name in ("tty", "image2") or container.format.name.endswith("_pipe"):
        raise UserError(f"{path} is not a video")
    flags = av.stream.Disposition
    streams = [stream for stream in container.streams.video if not stream.disposition & flags.attached_pic]
    if not streams:
        raise UserError(f"{path} holds no video")
    stream = next((stream for stream in streams if stream.disposition & flags.default), streams[0])
    if {key.lower(): value for key, value in stream.metadata.items()}.get("alpha_mode", "0") != "0":
        name = stream.codec_context.name.upper()
        raise UserError(f"{path} has an alpha channel ({name}, alpha_mode), so it may be transparent: flatten it first")
    return stream


def _describe(container: Any, stream: Any, frame: Any) -> VideoInfo:
    is_rgb = _is_rgb(frame)
    matrix = int(frame.colorspace)
    if is_rgb or matrix not in SCALER_MATRIX:
        matrix = BT709 if is_rgb or frame.height >= HD_ROWS else BT601
    full = not is_rgb and (frame.color_range == FULL or frame.format.name.startswith("yuvj"))
    rate = stream.average_rate or stream.guessed_rate or Fraction(25)
    time_base = stream.time_base or 1 / rate
    display = frame.side_data.get("DISPLAYMATRIX")
    notes = []
    if (bits := frame.format.components[0].bits) > 8:
        notes.append(f"its {bits} bits per channel are rounded to 8")
    if frame.interlaced_frame:
        notes.append("it is interlaced: deinterlace it first, or its combed edges are enlarged too")
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
        {k: v for k, v in container.metadata.items() if k.lower() not in CONTAINER_TAGS},
        tuple(notes),
    )


def _is_rgb(frame: Any) -> bool:
    return bool(frame.format.is_rgb or frame.format.has_palette)


def extract(path: Path, info: VideoInfo, folder: Path) -> list[Timing]:
    """Write all frames as ``folder/00000000.png`` and on; a second call only reads their times again.

    Times rise strictly; missing ones are computed from the rate. Raises :class:`UserError` that names a frame which is
    damaged, transparent or of another size; OSError if the disk is full.
    """
    times = folder / "times.json"
    if times.exists():
        if known := _extracted(times):
            return known
        print(f"the frames in {folder} are damaged: reading the video again", file=sys.stderr)
    timings: list[Timing] = []
    try:
        with _open(path) as container:
            stream = _video_stream(container, path)
            stream.thread_type = "AUTO"
            for frame in container.decode(stream):
                number = len(timings)
                if (frame.height, frame.width) != (info.height, info.width):
                    raise UserError(f"video {path} changes to {frame.width}x{frame.height} at frame {number}: split it")
                write_frame(folder / f"{number:08d}.png", _to_rgb(frame, info, f"{path}, frame {number}"))
                timings.append(_timing(frame, info, timings[-1] if timings else None))
            missing = cut_off(container, stream, timings, info.rate, info.time_base)
    except av.FFmpegError as error:
        place = f"after frame {len(timings)} ({_reason(error)})"
        raise UserError(f"video {path} is damaged {place}: repair or cut it") from error
    if missing:
        raise UserError(f"video {path} is cut off: {missing}")
    write_text(times, json.dumps(timings))
    return timings


def _extracted(times: Path) -> list[Timing]:
    """The times that :func:`extract` wrote last; none if they or one of the frames is damaged."""
    try:
        timings = [Timing(int(start), int(duration)) for start, duration in json.loads(times.read_bytes())]
    except (ValueError, TypeError):
        return []
    whole = all(is_whole(times.parent / f"{number:08d}.png") for number in range(len(timings)))
    return timings if whole else []


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


def check_encoding(source: Path, info: VideoInfo, size: Size, out: Path) -> None:
    """Write one frame of ``size`` and the first audio packet into memory, as :func:`encode` will write ``out``.

    Raises :class:`UserError` if the container cannot hold the audio, or the encoder not the size, before any work.
    """
    if max(size) > LARGEST_SIDE:
        raise UserError(
            f"{source} would become {size[1]}x{size[0]}, which is beyond the H.264 encoder's {LARGEST_SIDE} pixels a "
            "side: cut it, give a smaller --scale, or a folder with its frames"
        )
    black = np.zeros((*size, 3), np.uint8)
    try:
        _write(io.BytesIO(), out, source, info, size, [black], [Timing(0, 1)], audio_packets=1)
    except (av.FFmpegError, ValueError) as error:
        hint = "" if out.suffix.lower() == ".mkv" else ": try .mkv, which holds more kinds of audio"
        raise UserError(
            f"{source} cannot be written as {out.suffix}, {size[1]}x{size[0]} pixels large and with its audio "
            f"({_reason(error)}){hint}"
        ) from error


def encode(source: Path, info: VideoInfo, size: Size, frames: Sequence[Path], timings: list[Timing], out: Path) -> None:
    """Write frames of ``size`` (image files) as a video with the audio of ``source``, atomically.

    Raises OSError if the disk is full.
    """
    part = out.with_name(f".{out.name}.part")
    # a path, not a stream: FFmpeg hides errors on closing a Python stream
    _write(_address(part), out, source, info, size, map(read_frame, frames), timings)
    with part.open("rb") as stream:
        os.fsync(stream.fileno())
    part.replace(out)


def _write(
    target: str | IO[bytes], out: Path, source: Path, info: VideoInfo, size: Size, frames: Iterable[Frame],
    timings: list[Timing], audio_packets: int | None = None,
) -> None:  # fmt: skip
    how: dict[str, Any] = {"format": VIDEO_OUT[out.suffix.lower()], "container_options": EXACT}
    with _open(source) as original, av.open(target, "w", **how) as made:
        made.metadata.update(info.tags)
        track = _video_track(made, info, size)
        track.disposition = _video_stream(original, source).disposition
        video = _video_packets(track, frames, info, timings)
        known = _known_audio(original)
        tracks = {stream.index: made.add_stream_from_template(stream) for stream in known}
        for stream in known:
            tracks[stream.index].metadata.update(stream.metadata)
            tracks[stream.index].disposition = stream.disposition
        audio = islice(_audio_packets(original, tracks), audio_packets)
        # in the order of their times, so that few packets wait in memory
        for packet in heapq.merge(video, audio, key=lambda packet: packet.dts * packet.time_base):
            made.mux(packet)


def _video_packets(track: Any, frames: Iterable[Frame], info: VideoInfo, timings: list[Timing]) -> Iterator[Any]:
    for frame, timing in zip(frames, timings, strict=True):
        yield from track.encode(_to_yuv(frame, info, timing))
    rest = track.encode()
    rest[-1].duration = timings[-1].duration  # every other lasts until the next begins
    yield from rest


def _known_audio(original: Any) -> list[Any]:
    """The audio streams that FFmpeg knows, and so can copy: not a phone's spatial sound, for example."""
    return [stream for stream in original.streams.audio if stream.codec_context is not None]


def _audio_packets(original: Any, tracks: dict[int, Any]) -> Iterator[Any]:
    for packet in original.demux(*_known_audio(original)) if tracks else ():
        if packet.dts is not None:
            packet.stream = tracks[packet.stream.index]
            yield packet


def odd_sides(size: Size) -> list[str]:
    """What to tell the user about a video whose sides are not both even, as a list of at most one sentence."""
    if _pixel_format(size) == PIXEL_FORMAT:
        return []
    return [f"{size[1]}x{size[0]} has an odd side: stored in 4:4:4, which some players cannot show (even sides can be)"]


def _pixel_format(size: Size) -> str:
    """H.264 halves the colours' resolution for even sides only."""
    return PIXEL_FORMAT if size[0] % 2 == size[1] % 2 == 0 else "yuv444p"


def _video_track(made: Any, info: VideoInfo, size: Size) -> Any:
    video = made.add_stream("libx264", rate=info.rate, options=ENCODER)
    video.height, video.width = size
    video.pix_fmt = _pixel_format(size)
    video.time_base = video.codec_context.time_base = info.time_base
    context = video.codec_context
    context.colorspace, context.color_range = info.matrix, info.range
    context.color_primaries, context.color_trc = info.primaries, info.transfer
    if info.aspect:
        context.sample_aspect_ratio = info.aspect
    if info.display:
        scale = size[0] / info.height
        moved = (round(scale * number) if place in TRANSLATION else number for place, number in enumerate(info.display))
        video.set_display_matrix(tuple(moved))
    return video


def _to_yuv(frame: Frame, info: VideoInfo, timing: Timing) -> Any:
    picture = av.VideoFrame.from_ndarray(frame, format="rgb24").reformat(
        format=_pixel_format(frame.shape[:2]),
        src_color_range=FULL,
        dst_colorspace=SCALER_MATRIX[info.matrix],
        dst_color_range=info.range,
        interpolation=PRECISE,
    )
    picture.pts, picture.time_base, picture.duration = timing.start, info.time_base, timing.duration
    return picture
