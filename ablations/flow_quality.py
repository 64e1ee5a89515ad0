"""A study's method with the exact flow of the synthetic camera in place of an estimate, with the same noise.

    python ablations/flow_quality.py STUDY OUT

The test set is ``domains``, whose camera is known (:mod:`stablevsr.data.domains`). OUT gets ``sequence/frame.png``.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stablevsr.data.domains import clips
from stablevsr.data.frames import list_frames, list_sequences, read_frame, write_frame
from stablevsr.data.mini.photographs import synthetic_camera
from stablevsr.method.guidance import enlarge
from stablevsr.method.pipeline import to_tensor
from stablevsr.method.sampler import decode_frames, to_uint8
from stablevsr.study.inference import Pipelines
from stablevsr.study.jobs import locate_networks
from stablevsr.study.paths import Paths
from stablevsr.study.resolve import load_study

DATASET = "domains"
MARGIN = 8  #: pixels: closer to its border, a picture is seen mirrored


def camera(height: int, width: int, seed: int) -> list[NDArray[np.float64]]:
    """For each frame the 3 x 3 matrix from its pixels to those of the picture.

    The camera films the picture's coordinates; what it sees is fitted, because its interpolation is off by a trifle.
    """
    y, x = np.mgrid[:height, :width].astype(np.float32)
    last = np.array([width, height]) - 1 - MARGIN
    matrices = []
    for seen in synthetic_camera(np.stack([x, y], axis=-1), seed):
        rows, columns = np.nonzero(((seen > MARGIN) & (seen < last)).all(axis=-1))
        points = np.stack([columns, rows, np.ones_like(rows)], axis=-1).astype(np.float64)
        fitted = np.linalg.lstsq(points, seen[rows, columns].astype(np.float64), rcond=None)[0]
        matrices.append(np.vstack([fitted.T, [0, 0, 1]]))
    return matrices


class ExactFlow:
    """A flow estimator that knows its clip: LR frames (N, 3, h, w) in [-1, 1], and the camera's matrix of each."""

    def __init__(self, lr: Tensor, matrices: list[NDArray[np.float64]]) -> None:
        self.images = [enlarge(frame[None]) for frame in lr]
        self.matrices = matrices

    def __call__(self, target: Tensor, source: Tensor) -> Tensor:
        """Flow (1, 2, 4h, 4w) in pixels; images (1, 3, 4h, 4w), two frames of the clip as they are enlarged."""
        there, back = self._matrix(target), np.linalg.inv(self._matrix(source))
        y, x = np.mgrid[: target.shape[-2], : target.shape[-1]].astype(np.float64)
        points = np.stack([x, y, np.ones_like(x)])
        moved = np.einsum("ij,jhw->ihw", back @ there, points)
        return torch.from_numpy((moved - points)[None, :2]).to(target.device, torch.float32)

    def _matrix(self, image: Tensor) -> NDArray[np.float64]:
        seen = image.cpu()
        differences = [float((seen - own).abs().mean()) for own in self.images]
        return self.matrices[int(np.argmin(differences))]


def main(study_name: str, out: Path) -> None:
    study = load_study(study_name)
    paths, form = Paths(study), study.methods["stablevsr"].on(DATASET)
    assert form.sampling and form.guidance
    pipe = Pipelines().load(locate_networks(paths, form), form.sampling)
    sequences = {folder.name: folder for folder in list_sequences(paths.dataset(DATASET) / "lr")}
    for name, picture, seed in (clip for clip in clips() if clip[0] in sequences):
        files = list_frames(sequences[name])
        lr = to_tensor([read_frame(file) for file in files])
        flow = ExactFlow(lr, camera(*picture.shape[:2], seed)[: len(files)])
        key = f"{form.run}/{DATASET}/{name}"  # of the noise, as in the study's own job
        latents = pipe.sample(lr[None], [key], form.sampling, form.guidance, flow)[0]
        for file, image in zip(files, decode_frames(pipe.networks, latents), strict=True):
            write_frame(out / name / file.name, to_uint8(image))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
