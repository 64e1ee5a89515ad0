"""Methods that are not StableVSR: a sequence of LR frames in, x4 frames out."""
