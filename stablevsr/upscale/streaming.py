"""Sampling one clip of any length with its state on disk: the numbers of :class:`Sampler`, and memory for one frame.

Each frame-step reads one frame's latent, writes the next and leaves a mark, so memory does not grow with the clip, and
a killed run goes on at the very frame-step where it stopped. Latents alternate between two files a frame (what step k
reads, and what it writes), so a frame-step that was interrupted can simply be done again. Everything is written through
plain files: a full disk is then an error that can be said, and not a signal, as it would be with memory maps.
"""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from stablevsr.method.flow import FlowEstimator
from stablevsr.method.guidance import Flows, enlarge
from stablevsr.method.networks import ModelParts
from stablevsr.method.sampler import Progress, Sampler
from stablevsr.method.settings import Guidance, Sampling, Strategy
from stablevsr.method.strategies import sweeps, visiting_order
from stablevsr.runtime.io import atomic_file

LR = Callable[[int], Tensor]  #: frame number -> (1, 3, h, w) in [-1, 1] on the sampler's device


def save(path: Path, **tensors: Tensor) -> None:
    """Write tensors (on any device) as one ``.npz``, whole or not at all. Raises OSError if the disk is full."""
    buffer = io.BytesIO()  # numpy hides why it could not write when it writes to a file itself
    arrays = {name: tensor.detach().cpu().numpy() for name, tensor in tensors.items()}
    np.savez(buffer, allow_pickle=False, **arrays)
    with atomic_file(path) as stream:
        stream.write(buffer.getbuffer())


def load(path: Path, name: str = "value", device: torch.device | str = "cpu") -> Tensor:
    """Read one tensor back, bit for bit."""
    with np.load(path) as content:
        return torch.from_numpy(content[name]).to(device)


class NoiseBook:
    """All random draws of one clip, in the published order, of which any can be repeated in any order.

    The generator's states before each draw are kept on disk, 5 kB a frame and step: far less than the tensors. One
    pass through all draws writes them (some thousandths of what sampling costs).
    """

    def __init__(self, folder: Path, shape: tuple[int, int, int], frames: int, steps: int, strategy: Strategy) -> None:
        """``shape`` is (4, h, w); ``frames`` counts the whole clip, also where it is sampled in windows."""
        self._folder, self._shape, self._frames, self._steps, self._strategy = folder, shape, frames, steps, strategy
        self._generator = torch.Generator()
        self._loaded: tuple[int, Tensor] | None = None

    def record(self, generator: torch.Generator) -> None:
        """Write the states, unless an earlier run did: first the N initial latents', then step by step."""
        if self._file(self._steps - 1).exists():
            return
        for step in range(-1, self._steps):
            order = range(self._frames) if step < 0 else visiting_order(self._strategy, step, self._frames)
            states = torch.empty(self._frames, len(generator.get_state()), dtype=torch.uint8)
            for frame in order:
                states[frame] = generator.get_state()
                self._draw(generator)
            save(self._file(step), value=states)

    def initial(self, frame: int) -> Tensor:
        """(1, 4, h, w): the latent that ``frame`` starts from."""
        return self.step(-1, frame)

    def step(self, step: int, frame: int) -> Tensor:
        """(1, 4, h, w): the noise of one step and frame."""
        # set_state reads from the start of the tensor's storage (torch 2.14): a row has to be copied out first
        self._generator.set_state(self._states(step)[frame].clone())
        return self._draw(self._generator)

    def _draw(self, generator: torch.Generator) -> Tensor:
        return torch.randn(1, *self._shape, generator=generator)

    def _file(self, step: int) -> Path:
        return self._folder / f"draws{step + 1:04d}.npz"

    def _states(self, step: int) -> Tensor:
        if self._loaded is None or self._loaded[0] != step:
            self._loaded = (step, load(self._file(step)))
        return self._loaded[1]


class StoredFlows(Flows):
    """Optical flow between neighbouring frames, estimated once and kept on disk while there is room for it.

    Flow is the largest thing that a clip needs (256 bytes a LR pixel and frame). Where keeping it would leave less
    than ``reserve`` bytes of the disk free, it is estimated anew at every step: slower, the same numbers.
    """

    def __init__(self, folder: Path, lr: LR, estimator: FlowEstimator, reserve: int) -> None:
        self._folder, self._frame, self._estimator, self._reserve = folder, lr, estimator, reserve
        folder.mkdir(parents=True, exist_ok=True)

    def between(self, target: int, source: int) -> Tensor:
        """(1, 2, 4h, 4w) in pixels of the x4 frame: brings frame ``source`` onto ``target``."""
        path = self._folder / f"{source:08d}-{target:08d}.npz"
        device = self._frame(target).device
        if path.exists():
            return load(path, device=device)
        with torch.no_grad():
            flow = self._estimator(enlarge(self._frame(target)), enlarge(self._frame(source)))
        flow = flow.to(device, torch.float32)
        if shutil.disk_usage(self._folder).free - flow.nbytes > self._reserve:
            save(path, value=flow)
        return flow


@dataclass(frozen=True)
class Visit:
    """One frame-step: ``frame`` at ``step``, guided by frame ``before`` (None: no guidance)."""

    step: int
    frame: int
    before: int | None


def visits(sampling: Sampling, start: int, stop: int) -> Iterator[Visit]:
    """Every frame-step of frames [start, stop), in order."""
    guided = sweeps(sampling)
    if sampling.strategy == "auto_regressive":
        for frame in range(start, stop):
            for step in range(sampling.steps):
                yield Visit(step, frame, frame - 1 if frame > start and step in guided else None)
        return
    for step in range(sampling.steps):
        before = None
        for index in visiting_order(sampling.strategy, guided.get(step, 0), stop - start):
            yield Visit(step, start + index, before)
            before = start + index if step in guided else None


class Span:
    """The state on disk of sampling frames [start, stop) of a clip."""

    def __init__(self, folder: Path, start: int, stop: int, steps: int) -> None:
        self.folder, self.start, self.stop, self.steps = folder, start, stop, steps

    @property
    def flows(self) -> Path:
        """The folder for optical flow."""
        return self.folder / "flows"

    def done(self) -> int:
        """How many frame-steps are finished."""
        mark = self.folder / "mark.npz"
        return int(load(mark, "done")) if mark.exists() else 0

    def is_finished(self) -> bool:
        """Whether all frame-steps are finished."""
        return self.done() == (self.stop - self.start) * self.steps

    def seen(self, device: torch.device) -> Tensor:
        """(1, 4, h, w): what of the last visited frame guides the next one."""
        return load(self.folder / "mark.npz", "seen", device)

    def mark(self, done: int, seen: Tensor) -> None:
        """Say that ``done`` frame-steps are finished, and what guides the next one."""
        save(self.folder / "mark.npz", done=torch.tensor(done), seen=seen)

    def latent(self, frame: int, step: int, device: torch.device) -> Tensor:
        """(1, 4, h, w): the latent that ``step`` reads; ``step`` = ``steps`` is the finished one."""
        return load(self._file(frame, step), device=device)

    def put(self, frame: int, step: int, latent: Tensor) -> None:
        """Keep the latent that ``step`` will read."""
        save(self._file(frame, step), value=latent)

    def _file(self, frame: int, step: int) -> Path:
        return self.folder / f"latent{frame:08d}-{step % 2}.npz"


class StreamingSampler(Sampler):
    """Samples a clip, or a window of it, frame-step by frame-step from disk to disk. DDPM only: other solvers carry a
    history from step to step that this class does not keep."""

    def __init__(
        self, model: ModelParts, sampling: Sampling, guidance: Guidance, estimator: FlowEstimator, progress: Progress
    ) -> None:
        if sampling.scheduler != "ddpm":
            raise ValueError(f"scheduler {sampling.scheduler} keeps a history and cannot be streamed")
        super().__init__(model, sampling, guidance, estimator, progress=progress)

    @torch.no_grad()
    def run(self, span: Span, lr: LR, noise: NoiseBook, reserve: int) -> None:
        """Do the frame-steps of ``span`` that are not done; afterwards its finished latents can be read.

        Args:
            span: which frames, and where their state is kept.
            lr: gives the clip's LR frames by number.
            noise: the clip's draws, recorded.
            reserve: bytes of the disk that kept optical flow must leave free.
        """
        schedule = self._schedule()
        flows = StoredFlows(span.flows, lr, self.estimator, reserve)
        done = span.done()
        seen = span.seen(self.model.device) if done else None
        image: Tensor | None = None
        for index, visit in enumerate(visits(self.sampling, span.start, span.stop)):
            if index < done:
                continue
            noisy = self._noisy(span, visit, noise)
            if not self._keeps_image(visit):
                image = None
            if image is None and visit.before is not None:
                image = self._guide(span, visit, visit.before, seen, flows)
            given = image if visit.before is not None else None
            predicted = self._predict(schedule.timesteps[visit.step], noisy, lr(visit.frame), given)
            drawn = noise.step(visit.step, visit.frame).to(noisy)
            span.put(visit.frame, visit.step + 1, schedule.step(visit.step, noisy, predicted, drawn))
            seen = self._seen(schedule, visit.step, noisy, predicted)
            span.mark(index + 1, seen)
            self.progress(1)
        shutil.rmtree(span.flows)

    def _noisy(self, span: Span, visit: Visit, noise: NoiseBook) -> Tensor:
        if visit.step == 0:
            return noise.initial(visit.frame).to(self.model.device)
        return span.latent(visit.frame, visit.step, self.model.device)

    def _keeps_image(self, visit: Visit) -> bool:
        """Auto-regressive sampling guides all steps of a frame by one image, which is then decoded and warped once."""
        return self.sampling.strategy == "auto_regressive" and visit.step > 0

    def _guide(self, span: Span, visit: Visit, before: int, seen: Tensor | None, flows: Flows) -> Tensor:
        if self.sampling.strategy == "auto_regressive":
            seen = span.latent(before, span.steps, self.model.device)
        assert seen is not None
        return self._image(seen, flows, visit.frame, before)
