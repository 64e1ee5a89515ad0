"""One clip from its LR frames to finished x4 frames on disk, window by window, resumable at any point."""

from __future__ import annotations

import shutil
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from stablevsr.data.frames import read_frame, write_frame
from stablevsr.method.flow import FlowEstimator
from stablevsr.method.networks import ModelParts
from stablevsr.method.pipeline import to_tensor
from stablevsr.method.sampler import Progress, decode_frames, to_uint8
from stablevsr.method.settings import Guidance, Sampling
from stablevsr.upscale.clips import Clip
from stablevsr.upscale.streaming import NoiseBook, Span, StreamingSampler
from stablevsr.upscale.windows import split


class ClipRun:
    """The work on one clip.

    Args:
        clip: its LR frames.
        work: folder for the state of sampling; gone when the clip is finished.
        result: folder for the x4 frames, PNG with the stems of the LR frames; a frame appears when it is final.
        sampling: strategy and steps (DDPM).
        guidance: the warp grid (the flow estimator is given to :meth:`run`).
        window: frames sampled together at most; 0 = all.
    """

    def __init__(
        self, clip: Clip, work: Path, result: Path, sampling: Sampling, guidance: Guidance, window: int
    ) -> None:
        self.clip, self.work, self.result = clip, work, result
        self.sampling, self.guidance = sampling, guidance
        self.windows = split(len(clip.files), window)
        self.outputs = [result / f"{file.stem}.png" for file in clip.files]

    @property
    def total(self) -> int:
        """Frame-steps of the whole clip; frames in two windows count twice."""
        return sum(len(window) for window in self.windows) * self.sampling.steps

    def done(self) -> int:
        """Frame-steps finished, by this run or an earlier one."""
        steps = self.sampling.steps
        return sum(
            len(window) * steps if self._is_written(index) else self._span(index).done()
            for index, window in enumerate(self.windows)
        )

    def is_finished(self) -> bool:
        """Whether all x4 frames are there."""
        return all(path.exists() for path in self.outputs)

    def run(
        self, model: ModelParts, estimator: FlowEstimator, generator: torch.Generator, reserve: int, progress: Progress
    ) -> None:
        """Do what is left to do.

        Args:
            model: the networks.
            estimator: optical flow.
            generator: draws the whole clip's noise, on the CPU.
            reserve: bytes of the disk that kept optical flow must leave free.
            progress: called with the number of frame-steps just done.
        """
        shape = (int(model.unet.config.out_channels), self.clip.height, self.clip.width)
        noise = NoiseBook(self.work / "noise", shape, len(self.clip.files), self.sampling.steps, self.sampling.strategy)
        noise.record(generator)
        sampler = StreamingSampler(model, self.sampling, self.guidance, estimator, progress)

        @lru_cache(maxsize=4)
        def lr(frame: int) -> Tensor:
            return to_tensor([read_frame(self.clip.files[frame])]).to(model.device)

        for index in range(len(self.windows)):
            if self._is_written(index):
                continue
            if not self._span(index).is_finished():
                sampler.run(self._span(index), lr, noise, reserve)
            self._write(index, model)
            if index > 0:
                shutil.rmtree(self._span(index - 1).folder, ignore_errors=True)
        shutil.rmtree(self.work)

    def _span(self, index: int) -> Span:
        window = self.windows[index]
        return Span(self.work / f"window{index:06d}", window.start, window.stop, self.sampling.steps)

    def _own(self, index: int) -> range:
        """The frames that are final once this window is sampled: those before the next one begins."""
        following = self.windows[index + 1 :]
        return range(self.windows[index].start, following[0].start if following else len(self.clip.files))

    def _is_written(self, index: int) -> bool:
        return all(self.outputs[frame].exists() for frame in self._own(index))

    def _write(self, index: int, model: ModelParts) -> None:
        window = self.windows[index]
        for frame in self._own(index):
            if self.outputs[frame].exists():
                continue
            image = self._decode(index, frame, model)
            share = window.weight(frame)
            if share < 1:
                image = share * image + (1 - share) * self._decode(index - 1, frame, model)
            write_frame(self.outputs[frame], to_uint8(image))

    def _decode(self, index: int, frame: int, model: ModelParts) -> Tensor:
        latent = self._span(index).latent(frame, self.sampling.steps, model.device)
        return next(decode_frames(model, latent))
