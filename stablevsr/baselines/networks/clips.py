"""From a network of this package to an upscaler: its weights from the registry, frames in 8 bits in, frames out.

A side of 32 pixels or less is too small for SpyNet's coarsest level: it is padded to 64 by repeating the edge, and the
result is cropped.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from stablevsr.baselines import Upscaler
from stablevsr.baselines.networks.basicvsr import ClipNetwork
from stablevsr.data.degradation import SCALE
from stablevsr.data.downloads.fetch import fetched_weights
from stablevsr.method.dtypes import DTYPES
from stablevsr.runtime.errors import UserError

TOO_SMALL, EXTENDED = 32, 64  #: pixels a side


def read_weights(name: str) -> dict[str, Any]:
    """The content of a weight file of the registry, which is fetched if it is missing; tensors and plain values only.

    Raises :class:`UserError` if it cannot be fetched or holds anything else.
    """
    file = fetched_weights(name)
    try:
        return dict(torch.load(file, map_location="cpu", weights_only=True))
    except pickle.UnpicklingError as error:
        raise UserError(f"{file} holds more than weights and is not loaded: stablevsr fetch {name}") from error


def load_state(network: ClipNetwork, state: dict[str, Tensor], name: str) -> None:
    """Load a state dict. Raises :class:`UserError` if it is not the network's."""
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"the weights {name} are not those of the published network: {reason}") from error


def upscaler(network: ClipNetwork, device: str, precision: str) -> Upscaler:
    """The network with its weights as an upscaler."""
    network.eval().requires_grad_(False).to(device)
    network.set_dtype(DTYPES[precision])

    def stream(frames: NDArray[np.uint8]) -> Iterator[NDArray[np.float32]]:
        height, width = (SCALE * side for side in frames.shape[1:3])
        for image in network.stream(_PaddedClip(frames, device)):
            yield np.asarray(image[0, :, :height, :width].clamp(0, 1).permute(1, 2, 0).cpu())

    return Upscaler(stream)


class _PaddedClip:
    """8-bit frames as a :class:`.basicvsr.LRFrames`, converted when they are read."""

    def __init__(self, frames: NDArray[np.uint8], device: str) -> None:
        self._frames, self._device = frames, device
        self._pad = [EXTENDED - side if side <= TOO_SMALL else 0 for side in frames.shape[1:3]]

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, index: int) -> Tensor:
        frame = torch.from_numpy(self._frames[index]).to(self._device).permute(2, 0, 1)[None].float() / 255
        down, right = self._pad
        return F.pad(frame, (0, right, 0, down), mode="replicate")
