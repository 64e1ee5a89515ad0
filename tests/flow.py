"""The deterministic optical flow that the published code's outputs in ``tests/vectors`` were made with."""

import torch


def vector_flow(target, source):
    """(B, 3, H, W) in [-1, 1] twice -> (B, 2, H, W): a smooth field scaled by the pair's difference in brightness."""
    height, width = target.shape[-2:]
    y, x = torch.meshgrid(torch.arange(height).float(), torch.arange(width).float(), indexing="ij")
    flows = []
    for one, other in zip(target, source, strict=True):
        d = (one.mean() - other.mean()).item() * 40
        flows.append(
            torch.stack(
                [d * torch.cos(y / 9) + 1.5 * torch.sin(x / 13), d * torch.sin(x / 11) - 0.7 * torch.cos(y / 7)]
            )
        )
    return torch.stack(flows)
