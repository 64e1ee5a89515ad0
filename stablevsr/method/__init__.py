"""The paper: sampler, guidance, Temporal Conditioning Module, flow and the diffusion scheduler."""
