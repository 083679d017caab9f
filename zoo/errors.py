"""The exceptions users see: one class a concern, all of them `ZooError`; and `Stopped`, which is no error.

The command line prints any of them as one line, `zoo: error: ...`, and exits with 2.
"""


class Stopped(Exception):
    """A run that signal `number` has stopped: everything is saved, and what goes on from it is said."""

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.number = number


class ZooError(Exception):
    """Something the caller can mend; the message says where, what was expected, what came, what to do."""


class SpecError(ZooError):
    """A model or an option of it that cannot be: unknown name, shapes that do not fit, a width of 0."""


class InputError(ZooError):
    """An image or a batch the network cannot take: unreadable, too small, wrong channels."""


class BackendError(ZooError):
    """A framework that is unknown, that cannot run here, or whose worker failed."""


class UnavailableError(BackendError):
    """A framework that is not installed or does not have the device: what is skipped rather than failed."""


class WeightsError(ZooError):
    """Weights that do not fit the model, or a file that does not hold weights."""


class TrainingError(ZooError):
    """A flag, recipe or state of training that cannot be."""
