"""The weights of the vector ``basicvsr_pp``: a formula of a tensor's name and size (vectors/README.md)."""

import torch


@torch.no_grad()
def fill(state):
    """Fill a state dict in place."""
    for name, p in state.items():
        if name.endswith(("spynet.mean", "spynet.std")):
            continue
        k = sum(ord(c) * (i + 1) for i, c in enumerate(name)) % 9973
        fan = max(1, p.numel() // p.shape[0]) if p.ndim > 1 else 50
        v = torch.sin(torch.arange(p.numel(), dtype=torch.float64) * 12.9898 + k) * 43758.5453
        p.copy_(((v - v.floor() - 0.5) * 2 * (1.0 / fan) ** 0.5).view(p.shape).float())
    return state


def filled(network):
    fill(network.state_dict())
    return network.eval()
