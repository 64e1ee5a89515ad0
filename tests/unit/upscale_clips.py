"""Clips, the options and the leftovers for the tests of ``stablevsr upscale``."""

from pathlib import Path

import av
import torch

from stablevsr import StableVSRPipeline
from stablevsr.data.frames import write_frame
from stablevsr.upscale import UpscaleOptions

STEPS = 2


def pictures(count=3, height=16, width=20):
    smooth = torch.rand(count, 3, 4, 5, generator=torch.Generator().manual_seed(count))
    large = torch.nn.functional.interpolate(smooth, (height, width), mode="bicubic").clamp(0, 1)
    return (large.permute(0, 2, 3, 1) * 255).byte().numpy()


def write_folder(folder, frames=None):
    for number, frame in enumerate(pictures() if frames is None else frames):
        write_frame(folder / f"im{number}.png", frame)
    return folder


def write_video(path, frames=None):
    frames = pictures() if frames is None else frames
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264rgb", rate=10, options={"qp": "0"})
        stream.height, stream.width, stream.pix_fmt = *frames[0].shape[:2], "rgb24"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return path


def damage_late(path):
    """Zeros in the second half of an MP4's pictures."""
    whole = path.read_bytes()
    start, stop = whole.index(b"mdat") + 4, whole.index(b"moov")
    path.write_bytes(whole[: (start + stop) // 2] + bytes(stop - (start + stop) // 2) + whole[stop:])


def tiny(**changed):
    return UpscaleOptions(**{"model": "tiny", "steps": STEPS, "device": "cpu", **changed})


def content(path):
    """Every file of a result, by name; of a file its bytes."""
    if path.is_file():
        return path.read_bytes()
    return {str(p.relative_to(path)): p.read_bytes() for p in sorted(path.rglob("*")) if p.is_file()}


def remains(folder):
    return [p.name for p in folder.iterdir() if p.name.startswith(".")]


def refuse_models(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(StableVSRPipeline, "from_pretrained", refuse)


def stop_after(monkeypatch, files, error):
    """Let so many files reach their places, then raise ``error``."""
    left, replace = [files], Path.replace

    def counted(self, target):
        if left[0] == 0:
            raise error
        left[0] -= 1
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", counted)
