"""Training and validating: flags, data, optimizers, schedules, reports; frameworks are in backends.training."""
