"""Sampling one clip from LR frames to x4 frames on disk, window by window, resumable at every frame-step.

Memory does not grow with the length of the clip: latents and optical flow are files, noise is keyed by frame and step.
"""

from __future__ import annotations

import shutil
import sys
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from stablevsr.data.frames import read_frame, write_frame
from stablevsr.method.finite import NotFiniteError
from stablevsr.method.flow import FlowEstimator
from stablevsr.method.networks import ModelParts
from stablevsr.method.noise import Draw, KeyedNoise
from stablevsr.method.pipeline import to_tensor
from stablevsr.method.sampler import Progress, Sampler, decode_frames, to_uint8
from stablevsr.method.settings import Guidance, Sampling
from stablevsr.method.stores import FolderStore, State
from stablevsr.runtime.errors import DamagedError, UserError
from stablevsr.upscale.clips import SizedClip
from stablevsr.upscale.windowed_run import WindowedRun
from stablevsr.upscale.windows import split

#: Bytes on disk for each LR pixel of a frame: three tensors of four float32 channels, and an x4 frame that does not
#: compress.
BYTES_A_PIXEL = 3 * 16 + 16 * 3


class ClipRun(WindowedRun):
    """The work on one clip, in frame-steps: one denoising step of one frame.

    Args:
        clip, work, result: as for :class:`WindowedRun`; ``work`` holds the state of sampling.
        sampling: strategy and steps; the scheduler must be ``ddpm`` (see :meth:`Sampler.run`).
        guidance: the warp grid (the flow estimator is an argument of :meth:`run`).
        window: largest number of frames sampled together; 0 = all.
    """

    def __init__(
        self, clip: SizedClip, work: Path, result: Path, sampling: Sampling, guidance: Guidance, window: int
    ) -> None:
        super().__init__(clip, work, result, split(len(clip.files), window), sampling.steps)
        self.sampling, self.guidance = sampling, guidance

    def done_of(self, index: int) -> int:
        """Frame-steps of a window that are finished."""
        if self.is_written(index):
            return len(self.windows[index]) * self.steps
        try:
            return self._state(index).done
        except DamagedError:
            return 0

    def unwritten(self) -> int:
        """Bytes of disk that the frames take that are not written yet, with their latents."""
        return sum(not path.exists() for path in self.outputs) * self.clip.height * self.clip.width * BYTES_A_PIXEL

    def run(self, model: ModelParts, estimator: FlowEstimator, key: str, others: int, progress: Progress) -> None:
        """Sample and write all frames that are not written yet.

        Args:
            model: the networks.
            estimator: optical flow.
            key: of the clip's noise.
            others: bytes of disk that other clips still need: optical flow is kept only where it leaves them free.
            progress: called with the number of frame-steps just done.
        """
        # one frame at a time leaves the memory for larger frames
        sampler = Sampler(model, self.sampling, self.guidance, estimator, at_once=1, progress=progress)
        shape = (model.unet.config.out_channels, self.clip.height, self.clip.width)
        noise = KeyedNoise([key], shape)
        for index in range(len(self.windows)):
            for last_try in (False, False, True):
                if self.is_written(index):
                    break
                try:
                    self._make(index, sampler, noise, others)
                except DamagedError as error:
                    if last_try:  # the disk loses what is written to it
                        raise
                    print(f"{error}: sampling its frames again", file=sys.stderr)
                    shutil.rmtree(error.path.parent)
            if index > 0:
                shutil.rmtree(self.folder(index - 1), ignore_errors=True)
        shutil.rmtree(self.work, ignore_errors=True)

    def _make(self, index: int, sampler: Sampler, noise: Draw, others: int) -> None:
        """Sample a window and write its final frames; the window before too if it is needed and no longer there."""
        missing = [frame for frame in self.final[index] if not self.outputs[frame].exists()]
        if any(self.windows[index].weight(frame) < 1 for frame in missing):
            self._sample(index - 1, sampler, noise, others)
        self._sample(index, sampler, noise, others)
        self._write(index, sampler.model)

    def _sample(self, index: int, sampler: Sampler, noise: Draw, others: int) -> None:
        """Sample a window. Its frames get the noise that they have in the whole clip."""
        window, device = self.windows[index], sampler.model.device
        state = self._state(index, device)
        if state.done == len(window) * self.steps:
            return

        @lru_cache(maxsize=4)
        def lr(frame: int) -> Tensor:
            return to_tensor([read_frame(self.clip.files[window.start + frame])]).to(device)

        # flow takes the most space on disk (256 bytes per LR pixel and frame)
        flows = FolderStore(self.folder(index) / "flows", device, reserve=others + self.unwritten())
        try:
            sampler.run(
                len(window), lr, lambda step, frame: noise(step, window.start + frame), state, flows, window.start
            )
        except NotFiniteError as error:
            shutil.rmtree(self.folder(index), ignore_errors=True)  # the state may hold such values already
            raise UserError(f"{self.clip.name or self.clip.files[0].parent}: {error}") from error
        shutil.rmtree(flows.folder, ignore_errors=True)

    def _state(self, index: int, device: torch.device | str = "cpu") -> State:
        return State(FolderStore(self.folder(index), device))

    def _write(self, index: int, model: ModelParts) -> None:
        window = self.windows[index]
        for frame in self.final[index]:
            if self.outputs[frame].exists():
                continue
            image = self._decode(index, frame, model)
            share = window.weight(frame)
            if share < 1:
                image = share * image + (1 - share) * self._decode(index - 1, frame, model)
            write_frame(self.outputs[frame], to_uint8(image))

    def _decode(self, index: int, frame: int, model: ModelParts) -> Tensor:
        state = self._state(index, model.device)
        latents = state.latent(self.steps, frame - self.windows[index].start)
        return next(decode_frames(model, latents, first=frame))
