"""The device that the user names, checked before anything is loaded."""

from __future__ import annotations

from stablevsr.runtime.errors import UserError


def device_of(wanted: str) -> str:
    """cpu or cuda for ``auto``, else ``wanted``. Raises :class:`UserError` if this machine has no such device."""
    import torch

    count = torch.cuda.device_count()
    if wanted == "auto":
        return "cuda" if count else "cpu"
    kind, _, number = wanted.partition(":")
    if kind not in ("cpu", "cuda") or not (number or "0").isdecimal():
        raise UserError(f"device {wanted} is not supported: try auto, cpu or cuda")
    if kind == "cuda" and int(number or 0) >= count:
        raise UserError(f"device {wanted}: torch sees no such CUDA device here (it sees {count}); cpu always works")
    return wanted
