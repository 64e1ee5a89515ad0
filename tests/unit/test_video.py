"""Video in and out: what a copy repeats of its source, and what is refused."""

import errno
import resource
from fractions import Fraction

import av
import numpy as np
import pytest

from stablevsr.data.frames import list_frames, read_frame, write_frame
from stablevsr.runtime.errors import UserError
from stablevsr.upscale.video import check_encoding, encode, extract, probe

COLOURS = [(200, 40, 40), (40, 180, 60), (50, 60, 200), (128, 128, 128), (250, 250, 250), (5, 5, 5)]
BT709, FULL = 1, 2


def picture(number, height=24, width=40):
    """Six patches of flat colour, in another order in each frame."""
    rows, columns = np.meshgrid(np.arange(height) * 2 // height, np.arange(width) * 3 // width, indexing="ij")
    return np.array(COLOURS, np.uint8)[(rows * 3 + columns + number) % 6]


def write_video(path, frames=4, rate=12, times=None, audio=None, codec="libx264rgb", pixels="rgb24", **how):
    """A test video; RGB unless said otherwise, so that its colours are exact. ``times`` in 1/600 s."""
    with av.open(str(path), "w") as container:
        video = container.add_stream(codec, rate=rate, options={"qp": "0"} if "264" in codec else {})
        video.width, video.height, video.pix_fmt = 40, 24, pixels
        if times:
            video.codec_context.time_base = Fraction(1, 600)
        for name in ("colorspace", "color_range", "color_primaries", "color_trc"):
            if name in how:
                setattr(video.codec_context, name, how[name])
        if "rotation" in how:
            video.set_display_rotation(how["rotation"])
        if "title" in how:
            container.metadata["title"] = how["title"]
        sound = container.add_stream(audio, rate=48000) if audio else None
        if sound:
            write_sound(container, sound)
        for number in range(frames):
            frame = av.VideoFrame.from_ndarray(picture(number), format="rgb24")
            if pixels != "rgb24":
                frame = frame.reformat(
                    format=pixels, dst_colorspace=how.get("colorspace", 5), dst_color_range=how.get("color_range", 1)
                )
            if times:
                frame.pts, frame.time_base = times[number], Fraction(1, 600)
            container.mux(video.encode(frame))
        container.mux(video.encode())
    return path


def write_sound(container, stream):
    if not stream.codec_context.is_open:
        stream.layout = "mono"
    for index in range(20):
        wave = (np.sin(np.arange(1024) / 9 + index) * 8000).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(wave[None], format="s16", layout="mono")
        frame.rate, frame.pts = 48000, index * 1024
        container.mux(stream.encode(frame))
    container.mux(stream.encode())


def round_trip(source, out):
    """Extract, enlarge by repeating pixels, encode: all of ``upscale`` but the networks."""
    info = probe(source)
    size = (4 * info.height, 4 * info.width)
    check_encoding(source, info, size, out)
    work = out.with_suffix(".work")
    timings = extract(source, info, work / "lr")
    large = []
    for path in list_frames(work / "lr"):
        large.append(work / "sr" / path.name)
        write_frame(large[-1], np.kron(read_frame(path), np.ones((4, 4, 1), np.uint8)))
    encode(source, info, size, large, timings, out)
    return out


def shown(path):
    """First stream's decoded frames as RGB, what they say of themselves, and the stream's rate."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = list(container.decode(stream))
        times = [frame.time for frame in frames]
        return [f.to_ndarray(format="rgb24") for f in frames], frames[0], times, stream.average_rate, container.metadata


def packets(path):
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        return [(bytes(p), float(p.pts * p.time_base)) for p in container.demux(stream) if p.size]


@pytest.mark.parametrize("rate", [12, Fraction(30000, 1001)])
def test_frame_rate_size_title_and_frames_are_kept(tmp_path, rate):
    source = write_video(tmp_path / "a.mp4", rate=rate, title="Aunt Ida")
    images, _, times, made, tags = shown(round_trip(source, tmp_path / "b.mp4"))
    assert made == rate and tags["title"] == "Aunt Ida"
    np.testing.assert_allclose(times, [float(n / rate) for n in range(4)], atol=1e-4)
    for number, image in enumerate(images):
        assert image.shape == (96, 160, 3)
        middles = image[24::48, 26:160:53].reshape(6, 3).astype(int)
        expected = picture(number)[6::12, 6::13].reshape(6, 3)
        assert np.abs(middles - expected).max() <= 6


@pytest.mark.parametrize("container", ["mp4", "mov", "mkv"])
def test_a_variable_frame_rate_keeps_every_frames_time(tmp_path, container):
    times = [0, 60, 300, 420]
    source = write_video(tmp_path / f"a.{container}", times=times)
    assert shown(source)[2] == pytest.approx([t / 600 for t in times], abs=1e-3)
    assert shown(round_trip(source, tmp_path / f"b.{container}"))[2] == shown(source)[2]


def test_the_last_frame_stays_as_long(tmp_path):
    source = write_video(tmp_path / "a.mp4", times=[0, 60, 300, 420])
    info = probe(source)
    extract(source, info, tmp_path / "lr")
    timings = [*extract(source, info, tmp_path / "lr")]
    timings[-1] = type(timings[-1])(timings[-1].start, round(2 / info.time_base))
    frames = [tmp_path / "large.png"] * 4
    write_frame(frames[0], np.zeros((96, 160, 3), np.uint8))
    encode(source, info, (96, 160), frames, timings, tmp_path / "b.mp4")
    with av.open(str(tmp_path / "b.mp4")) as container:
        stream = container.streams.video[0]
        assert float(stream.duration * stream.time_base) == pytest.approx(420 / 600 + 2, abs=1e-3)


@pytest.mark.parametrize("container", ["mp4", "mov", "mkv"])
def test_the_same_frames_give_the_same_bytes(tmp_path, container):
    source = write_video(tmp_path / "a.mp4", audio="aac")
    one, other = (round_trip(source, tmp_path / f"{name}.{container}") for name in "bc")
    assert one.read_bytes() == other.read_bytes()


@pytest.mark.parametrize("degrees", [90, 180, -90])
def test_rotation_is_kept_and_frames_are_not_turned(tmp_path, degrees):
    source = write_video(tmp_path / "a.mp4", rotation=degrees)
    images, first, *_ = shown(round_trip(source, tmp_path / "b.mp4"))
    assert first.rotation == shown(source)[1].rotation != 0
    assert images[0].shape == (96, 160, 3)


@pytest.mark.parametrize("how", [
    {}, {"color_range": FULL}, {"colorspace": BT709, "color_primaries": 1, "color_trc": 1},
    {"colorspace": BT709, "color_range": FULL},
])  # fmt: skip
def test_colour_range_and_matrix_are_kept_and_so_are_the_colours(tmp_path, how):
    source = write_video(tmp_path / "a.mkv", codec="libx264", pixels="yuv444p", **how)
    out = round_trip(source, tmp_path / "b.mkv")
    before, first, *_ = shown(source)
    after, made, *_ = shown(out)
    assert made.color_range == how.get("color_range", 1)
    if "colorspace" in how:
        assert (made.colorspace, made.color_primaries) == (first.colorspace, first.color_primaries)
    for old, new in zip(before, after, strict=True):
        patches = np.abs(old[6::12, 6::13].astype(int) - new[24::48, 26:160:53])
        assert patches.max() <= 6


@pytest.mark.parametrize("codec,given,made", [
    ("aac", "mp4", "mp4"), ("aac", "ts", "mp4"), ("aac", "ts", "mkv"), ("libmp3lame", "mkv", "mp4"),
    ("pcm_s16le", "mov", "mov"), ("pcm_s16le", "mkv", "mkv"),
])  # fmt: skip
def test_audio_packets_are_copied_not_encoded_again(tmp_path, codec, given, made):
    source = write_video(tmp_path / f"a.{given}", audio=codec)
    before, after = packets(source), packets(round_trip(source, tmp_path / f"b.{made}"))
    header = 7 if given == "ts" else 0  # of every packet of AAC there, and once in the head of other containers
    assert [data for data, _ in after] == [data[header:] for data, _ in before]
    assert [t for _, t in after] == pytest.approx([t for _, t in before], abs=1e-3)


def test_sound_that_is_not_known_is_left_out(tmp_path):
    """As the spatial sound of a phone, beside which it writes a track that is known."""
    source = write_video(tmp_path / "a.mp4", audio="aac")
    source.write_bytes(source.read_bytes().replace(b"mp4a", b"apac").replace(b"esds", b"free"))
    with av.open(str(round_trip(source, tmp_path / "b.mp4"))) as made:
        assert len(made.streams.video) == 1 and not made.streams.audio


@pytest.mark.parametrize("container", ["mkv", "mp4"])
def test_the_flags_of_audio_tracks_are_kept(tmp_path, container):
    flags = av.stream.Disposition
    given = [flags(0), flags.default, flags.forced | flags.comment]
    with av.open(str(tmp_path / f"a.{container}"), "w") as made:
        video = made.add_stream("libx264", rate=10)
        video.width = video.height = 32
        tracks = [made.add_stream("aac", rate=48000) for _ in given]
        for track, flag in zip(tracks, given, strict=True):
            track.disposition, track.layout = flag, "mono"
        made.mux([*video.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8))), *video.encode()])
        for track in tracks:
            write_sound(made, track)
    with av.open(str(round_trip(tmp_path / f"a.{container}", tmp_path / f"b.{container}"))) as made:
        assert [stream.disposition for stream in made.streams.audio] == given


def test_an_avi_with_dropped_frames_is_not_cut_off(tmp_path):
    with av.open(str(tmp_path / "a.avi"), "w") as made:
        video = made.add_stream("mpeg4", rate=10)
        video.width = video.height = 32
        video.codec_context.time_base = Fraction(1, 10)
        for number in (0, 1, 3, 4, 6, 7, 9):
            frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 20 * number, np.uint8))
            frame.pts, frame.time_base = number, Fraction(1, 10)
            made.mux(video.encode(frame))
        made.mux(video.encode())
    times = extract(tmp_path / "a.avi", probe(tmp_path / "a.avi"), tmp_path / "lr")
    assert [time.start for time in times] == [0, 1, 3, 4, 6, 7, 9]


def test_audio_that_the_container_cannot_hold_is_said_first(tmp_path):
    source = write_video(tmp_path / "a.mkv", audio="pcm_u8")
    with pytest.raises(UserError, match=r"try \.mkv"):
        check_encoding(source, probe(source), (96, 160), tmp_path / "b.m4v")


def test_more_than_eight_bits_are_announced(tmp_path):
    source = write_video(tmp_path / "a.mkv", codec="ffv1", pixels="yuv420p10le")
    assert "rounded to 8" in probe(source).notes[0]


def test_extracted_frames_are_read_back_not_decoded_again(tmp_path):
    source = write_video(tmp_path / "a.mp4")
    info = probe(source)
    first = extract(source, info, tmp_path / "lr")
    source.unlink()
    assert extract(source, info, tmp_path / "lr") == first


@pytest.mark.parametrize("content", [b"", b"This is a letter.\n" * 100, bytes(5000)])
def test_what_is_no_video_is_named(tmp_path, content):
    path = tmp_path / "a.mp4"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"a\.mp4"):
        probe(path)


def test_a_video_with_sound_only_is_named(tmp_path):
    with av.open(str(tmp_path / "a.mka"), "w", format="matroska") as container:
        write_sound(container, container.add_stream("pcm_s16le", rate=48000))
    with pytest.raises(UserError, match="holds no video"):
        probe(tmp_path / "a.mka")


def test_a_video_cut_off_is_named(tmp_path):
    path = write_video(tmp_path / "a.mp4", frames=40)
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(UserError, match=r"a\.mp4 cannot be read"):
        probe(path)


@pytest.mark.parametrize("suffix,audio", [("mkv", None), ("mkv", "pcm_s16le"), ("webm", None), ("flv", None)])
def test_a_video_cut_off_that_declares_its_length_only_is_named(tmp_path, suffix, audio):
    how = {"codec": "libvpx-vp9" if suffix == "webm" else "libx264", "pixels": "yuv420p"}
    path = write_video(tmp_path / f"a.{suffix}", frames=40, audio=audio, **how)
    assert len(extract(path, probe(path), tmp_path / "whole")) == 40
    with av.open(str(path)) as container:
        position = next(p.pos for n, p in enumerate(container.demux(video=0)) if n == 20)
    path.write_bytes(path.read_bytes()[:position])
    for _ in range(2):
        with pytest.raises(UserError, match=r"is cut off: it stops at 1\.[67]\d of its 3\.[345]\d seconds"):
            extract(path, probe(path), tmp_path / "lr")


@pytest.mark.parametrize("suffix", ["mkv", "flv"])
def test_a_short_video_is_not_cut_off(tmp_path, suffix):
    path = write_video(tmp_path / f"a.{suffix}", frames=1, codec="libx264", pixels="yuv420p")
    assert len(extract(path, probe(path), tmp_path / "lr")) == 1


def test_a_video_damaged_further_on_is_named_and_never_taken_for_a_shorter_one(tmp_path):
    path = write_video(tmp_path / "a.mp4", frames=40)
    content = path.read_bytes()
    frames, index = content.index(b"mdat") + 4, content.index(b"moov")
    middle = (frames + index) // 2
    path.write_bytes(content[:middle] + bytes(index - middle) + content[index:])
    with pytest.raises(UserError, match=r"a\.mp4 is (damaged|cut off)"):
        extract(path, probe(path), tmp_path / "lr")


def test_a_file_that_may_not_grow_is_the_error_that_it_is_and_no_result(tmp_path):
    source = write_video(tmp_path / "a.mp4")
    info = probe(source)
    timings = extract(source, info, tmp_path / "lr")
    write_frame(tmp_path / "large.png", np.kron(picture(0), np.ones((4, 4, 1), np.uint8)))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(OSError) as caught:
            encode(source, info, (96, 160), [tmp_path / "large.png"] * 4, timings, tmp_path / "b.mp4")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.errno == errno.EFBIG
    assert not (tmp_path / "b.mp4").exists()
