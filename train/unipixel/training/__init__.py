"""Training: Trainer, DeepSpeed, checkpoints, validation, log."""
