"""Warnings about flags that do not do what their user may expect."""

from __future__ import annotations

from zoo.training.flags.table import Arguments, flags_of
from zoo.training.schedules import Schedule

HIGH_END = 0.1
"""Share of the peak that a cosine's last learning rate should not exceed."""


def remarks(a: Arguments) -> list[str]:
    """A sentence for each flag of the command line that has no effect, and for choices that are rarely intended."""
    sentences = []
    for name, row in flags_of(a.script).items():
        typed = name in a.typed and getattr(a, name) != row.default and row.script in (None, a.script)
        if typed and row.used is not None and not row.used.holds(a):
            sentences.append(f"--{name} has no effect {row.used.otherwise.format_map(vars(a))}.")
    if a.mode == 0 and a.backend == "torch" and not str(a.device).startswith("gpu"):
        sentences.append(
            "--mode 0: on a CPU torch.compile takes minutes before the first batch; --mode 1 starts at once."
        )
    if a.script == "train" and a.scheduler == "cosine_decay" and a.warmup_epochs < a.epoch_size:
        sentences += _unfinished_cosine(a)
    return sentences


def _unfinished_cosine(a: Arguments) -> list[str]:
    epochs = a.epoch_size - a.warmup_epochs
    schedule = Schedule(
        a.scheduler, a.lr, 1, a.epoch_size, a.min_lr, a.warmup_epochs, decay_epochs=a.decay_epochs,
        num_cycles=a.num_cycles, cycle_decay=a.cycle_decay,
    )  # fmt: skip
    last = schedule(a.epoch_size)
    if epochs >= a.decay_epochs or last <= max(HIGH_END * a.lr, a.min_lr):
        return []
    return [
        f"--decay_epochs {a.decay_epochs}: the run ends after {epochs} epochs of the cosine, with the learning rate "
        f"still at {last:.2g}; --decay_epochs {epochs} makes it end at --min_lr."
    ]
