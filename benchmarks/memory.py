"""Memory of the full-size networks in float32, counted from shapes: nothing is computed and no GPU is needed.

    python benchmarks/memory.py

What is counted are the tensors that are alive at one time. A GPU needs more: the workspaces of its kernels, gaps of the
allocator, and about 0.5 GB for CUDA itself. Attention is counted as by a fused kernel, which keeps no matrix of all
pairs. ``stablevsr/study/memory.py`` holds what this prints.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from stablevsr.bench.sampling import full_size


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of all tensors that are alive: ``now``, and the most since ``peak`` was set."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._sizes: dict[int, int] = {}

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                self._add(tensor.untyped_storage())
        return result

    def _add(self, storage: Any) -> None:
        key = storage._cdata
        if key not in self._sizes:
            self._sizes[key] = storage.nbytes()
            self.now += storage.nbytes()
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._drop, key)

    def _drop(self, key: int) -> None:
        self.now -= self._sizes.pop(key)


class FusedAttention(torch.autograd.Function):
    """What fused attention keeps for its gradient: queries, keys, values and the result."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        result = torch.empty_like(query)
        ctx.save_for_backward(query, key, value, result)
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, ...]:
        return tuple(torch.empty_like(tensor) for tensor in ctx.saved_tensors[:3])


@contextmanager
def counting() -> Iterator[LiveBytes]:
    """Tensors without values, whose bytes are counted."""
    plain, F.scaled_dot_product_attention = F.scaled_dot_product_attention, _attention
    try:
        with FakeTensorMode(allow_non_fake_inputs=True), LiveBytes() as live:
            yield live
    finally:
        F.scaled_dot_product_attention = plain


def _attention(query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any) -> Any:
    return FusedAttention.apply(query, key, value)  # type: ignore[no-untyped-call]


def sampling(frames: int, height: int, width: int) -> dict[str, int]:
    """Bytes of the weights, and on top of them of each stage for ``frames`` frames of (height, width) LR pixels."""
    with counting() as live, torch.no_grad():
        unet, module, vae = full_size()
        found = {"weights": live.now}
        sample, prompt = torch.empty(frames, 7, height, width), torch.empty(frames, 77, 1024)
        image, latents = torch.empty(frames, 3, 4 * height, 4 * width), sample[:, :4]
        given = {"encoder_hidden_states": prompt}
        found["decoding"] = _extra(live, lambda: vae.decode(latents))
        found["TCM"] = _extra(live, lambda: module(sample, 500, controlnet_cond=image, **given))
        found["UNet"] = _extra(live, lambda: unet(sample, 500, **given))
    return found


def training(kind: str, crops: int, crop: int = 256) -> dict[str, int]:
    """Bytes of a step: ``weights`` of all networks, ``trained`` ones, and what is ``kept`` for the backward pass.

    ``kind`` is tcm or unet.
    """
    side = crop // 4
    with counting() as live:
        unet, module, _ = (network.requires_grad_(False) for network in full_size())
        trained = (module if kind == "tcm" else unet).requires_grad_(True)
        found = {"weights": live.now, "trained": sum(p.nbytes for p in trained.parameters())}
        sample, prompt = torch.empty(crops, 7, side, side), torch.empty(crops, 77, 1024)
        given: dict[str, Any] = {"encoder_hidden_states": prompt}
        residuals: dict[str, Any] = {}
        if kind == "tcm":
            image = torch.empty(crops, 3, crop, crop)
            down, mid = module(sample, 500, controlnet_cond=image, return_dict=False, **given)
            residuals = {"down_block_additional_residuals": down, "mid_block_additional_residual": mid}
            del down, mid
        predicted = unet(sample, 500, **given, **residuals).sample
        residuals.clear()
        found["kept"] = live.now - found["weights"]
        assert predicted.requires_grad
    return found


def _extra(live: LiveBytes, run: Callable[[], object]) -> int:
    before = live.peak = live.now
    run()
    return live.peak - before


def main() -> None:
    """Print the table."""
    for frames, height, width in ((1, 180, 320), (2, 180, 320), (1, 64, 112)):
        _print(f"{frames} of {width}x{height}", sampling(frames, height, width))
    for kind in ("tcm", "unet"):
        for crops in (1, 8, 32):
            _print(f"training {kind}, {crops} crops of 256x256", training(kind, crops))


def _print(what: str, found: dict[str, int]) -> None:
    print(f"{what}: " + ", ".join(f"{name} {count / 1e9:.2f} GB" for name, count in found.items()), flush=True)


if __name__ == "__main__":
    main()
