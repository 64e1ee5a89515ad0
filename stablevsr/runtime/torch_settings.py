"""The settings of torch in a job. Fingerprints contain it, unlike the rest of this package: TF32 changes numbers."""

from __future__ import annotations

from stablevsr.runtime.devices import granted_threads


def configure_torch(tf32: bool = False) -> None:
    """Let torch use the threads that were granted to this job, and compute float32 in full on a GPU, or in TF32."""
    import torch

    torch.set_num_threads(granted_threads())
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
