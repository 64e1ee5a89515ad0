"""Average every frame with its two neighbours along the motion: what a filter after any method can do.

    python ablations/temporal_filter.py FRAMES LR OUT

FRAMES and LR hold ``sequence/frame.png``; OUT gets the names of FRAMES. The flow between neighbours is estimated
(OpenCV's DIS) on the bicubic x4 LR frames, like that of the guidance. Where the two directions of the flow disagree, or
leave the frame, a neighbour has no weight. The first and the last frame have one neighbour.
"""

import sys
from pathlib import Path

import torch
from torch import Tensor

from stablevsr.data.frames import list_frames, read_frame, write_frame
from stablevsr.method.flow import DISFlow, occlusion_mask, warp
from stablevsr.method.guidance import enlarge


def read_video(files: list[Path]) -> Tensor:
    """Frames as float32 (N, 3, H, W) in [-1, 1]."""
    frames = [torch.from_numpy(read_frame(file)).permute(2, 0, 1) for file in files]
    return torch.stack(frames).float() / 127.5 - 1


def average(video: Tensor, lr: Tensor) -> Tensor:
    """The filtered video (N, 3, 4h, 4w) in [-1, 1]; ``lr`` is (N, 3, h, w)."""
    flow, guide = DISFlow(), enlarge(lr)
    total, weight = video.clone(), torch.ones_like(video[:, :1])
    for target, source in [(i, j) for i in range(len(video)) for j in (i - 1, i + 1) if 0 <= j < len(video)]:
        there = flow(guide[target, None], guide[source, None])
        back = flow(guide[source, None], guide[target, None])
        trusted = occlusion_mask(there, back)[0]
        total[target] += trusted * warp(video[source, None], there, "aligned")[0]
        weight[target] += trusted
    return total / weight


def main(frames: Path, lr: Path, out: Path) -> None:
    for sequence in sorted(folder for folder in frames.iterdir() if folder.is_dir() and folder.name[0] != "."):
        files = list_frames(sequence)
        video = average(read_video(files), read_video(list_frames(lr / sequence.name)))
        for file, image in zip(files, video, strict=True):
            levels = ((image + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
            write_frame(out / sequence.name / file.name, levels.permute(1, 2, 0).contiguous().numpy())


if __name__ == "__main__":
    main(*(Path(argument) for argument in sys.argv[1:]))
