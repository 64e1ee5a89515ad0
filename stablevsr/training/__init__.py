"""Training: one loop (:mod:`.loop`) for the TCM, the UNet's single-image SR fine-tuning and the tiny base model."""
