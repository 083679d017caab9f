"""Training and validating: flags, data, optimizers, schedules, reports. Training steps are in backends.training."""
