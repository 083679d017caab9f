"""The exceptions that users see, one class for each concern, all of them `ZooError`; and `Stopped`, not an error.

The command line prints any of them as one line, `zoo: error: ...`, and exits with 2.
"""


class Stopped(Exception):
    """Signal `number` has stopped a run: its state is saved, and the command that resumes it has been printed."""

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.number = number


class ZooError(Exception):
    """An error that the caller can mend: the message says where, what was expected, what came, and what to do."""


class SpecError(ZooError):
    """A model or option that is not valid: an unknown name, shapes that do not fit, a width of 0."""


class InputError(ZooError):
    """An image or a batch that the network cannot take: unreadable, too small, wrong channels."""


class BackendError(ZooError):
    """A framework that is unknown, cannot run here, or whose worker failed."""


class UnavailableError(BackendError):
    """A framework that is not installed, or has no such device or dtype: `zoo parity` skips it.

    Any other BackendError makes `zoo parity` fail.
    """


class WeightsError(ZooError):
    """Weights that do not fit the model, or a file that does not hold weights."""


class TrainingError(ZooError):
    """A flag, recipe or training state that is not valid."""
