"""train.py and `zoo train`: the training loop.

`zoo.training` turns flags into datasets, a network and a plan, and keeps the states from which a run resumes after a
signal, a crash or a full disk. The loader gives every framework the same pixels in the same order, and the backend
supplies the training step. With --distribute this is one process of several.
"""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import numpy as np
from numpy.typing import NDArray

import weights
from backends import deploys, get
from backends.training import Trainer, trainer
from zoo.catalogue import models
from zoo.commands import runtime
from zoo.commands.entry_point import Signals, command, say
from zoo.data import Dataset, Loader
from zoo.data.loader import at_position
from zoo.errors import Stopped, TrainingError, ZooError
from zoo.files import atomic_write, write_csv
from zoo.language.document import to_json
from zoo.models import ALIASES
from zoo.training import inputs, recipe, resume
from zoo.training.evaluation import Evaluation, Predict, evaluate
from zoo.training.flags import Arguments, parse, remarks, save_yaml, to_yaml
from zoo.training.processes import Processes, lost, speaks_of_others
from zoo.training.report import Reporter
from zoo.training.run_folder import Keeper, lock, require_disk_space, set_aside
from zoo.training.schedules import Schedule
from zoo.training.skipped import SkippedImages
from zoo.training.state import Position, State, require_same_network


def main(arguments: Sequence[str] | None = None) -> int:
    a = parse(arguments, "train")
    for sentence in remarks(a):
        recipe.logger.warning(sentence)
    get(a.backend)  # a missing framework is reported first
    processes = runtime.processes(a)
    folder, first = Path(a.ckpt_save_dir), processes.rank == 0

    with ExitStack() as stack:
        locked = first and folder.is_dir()
        if locked:  # before its files are read
            stack.enter_context(lock(folder))
        processes.wait()

        # All checks of the flags come before anything is written or takes long.
        resumed = resume.resumed_state(a)
        checkpoint = resumed.path if resumed else processes.first(lambda: resume.initial_weights(a))
        data = processes.first(lambda: inputs.dataset(a, a.train_split))
        held_out = inputs.held_out(a, data) if a.val_while_train else None
        network = recipe.network(a, data, checkpoint)
        model = network.model
        loader = inputs.training_loader(a, data, model, processes)
        validation = None if held_out is None else inputs.validation_loader(a, held_out, model, processes)
        schedule = recipe.schedule(a, len(loader))
        plan = recipe.plan(a, model)
        inputs.require_batches(a, loader, model, processes)
        start = Position(1, 0)
        if resumed:
            require_same_network(resumed, model)
            start = resume.start_position(a, resumed, loader)
        if first and not locked:
            stack.enter_context(lock(folder))
        if first:
            copies = len(plan.optimizer.slots) + 1 + (plan.ema is not None)
            keep = a.keep_checkpoint_max if a.ckpt_save_policy else None
            require_disk_space(folder, model, copies, a.keep_state_max, keep)
        training = trainer(a.backend, runtime.build(a, network), plan, processes)
        if resumed:
            training.resume(resumed.arrays)
            resumed = replace(resumed, arrays={})  # they may take a gigabyte

        processes.wait()  # all have read what they need
        same_folder = resumed is not None and resumed.path.resolve().parent == folder.resolve()
        if first:
            set_aside(folder, model.name, resumed.position if resumed and same_folder else None)
            save_recipe(a, folder)
        processes.wait()
        keeper = Keeper(
            folder, model, a.keep_checkpoint_max, a.ckpt_save_policy, a.keep_state_max, resumed, data.classes
        )
        signals = stack.enter_context(Signals(alone=processes.size == 1))
        report = stack.enter_context(
            Reporter(
                folder if first else None,
                model.name,
                a.epoch_size,
                len(loader),
                mode=a.progress if first else "none",
                log_interval=a.log_interval,
                tensorboard=a.tensorboard and first,
                start_epoch=start.epoch - 1,
                start_step=start.step,
                rates=resumed.rates if resumed else (),
            )
        )
        report.message(_summary(a, training, data, len(loader)))
        if inputs.could_validate(a):
            report.message(f"no validation: --val_while_train validates on the split {a.val_split} after each epoch")
        if resumed:
            report.message(f"resumed from {resumed.path}: {resumed.position}")
        skipped = SkippedImages(folder / "bad_images.csv", processes, same_folder)
        loop = Loop(a, training, loader, validation, schedule, keeper, report, skipped, signals)
        try:
            summary = loop.run(start, resumed if resumed and start.epoch == resumed.position.epoch else None)
        except (ZooError, OSError, RuntimeError) as error:
            reason = _reason(error, processes)
            raise TrainingError(f"{reason}; {loop.resume_command()}" if first else reason) from None
        if len(skipped):
            report.message(f"{len(skipped)} images could not be read: {skipped.path}")
        if summary:
            report.message(summary)
    processes.leave()
    return 0


SHOWN = 3
"""The number of images of a batch that an error names."""

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)

AGREE_INTERVAL = 10
"""Steps between two exchanges of losses and signals among several processes. An exchange waits for the device."""


class Unread(NamedTuple):
    """A step whose loss is still on the device: reading it would wait for the device to finish the step."""

    step: int
    loss: Any
    lr: float
    weight: float
    indices: NDArray[np.int64]


class Loop:
    """Epochs of batches, validation and checkpoints."""

    def __init__(
        self,
        a: Arguments,
        training: Trainer,
        loader: Loader,
        validation: Loader | None,
        schedule: Schedule,
        keeper: Keeper,
        report: Reporter,
        skipped: SkippedImages,
        signals: Signals,
    ) -> None:
        self.a, self.training, self.loader, self.validation, self.schedule = a, training, loader, validation, schedule
        self.keeper, self.report, self.skipped, self.signals = keeper, report, skipped, signals
        self.processes = training.processes
        self.evaluator = Evaluator(a, training) if validation else None
        self.losses: list[float] = []
        self.unread: list[Unread] = []
        self.epoch_start = 0.0
        self.known_skipped = 0

    def run(self, start: Position, resumed: State | None) -> str:
        """Train and validate from a position on; returns the figures of the last validation, or "".

        `resumed` is the state that the run has resumed from, if the epoch of `start` is that of the state.
        """
        a, summary = self.a, ""
        for epoch in range(start.epoch, a.epoch_size + 1):
            self.epoch_start, self.losses, step = time.perf_counter(), [], 0
            if resumed and epoch == start.epoch:
                self.epoch_start -= resumed.seconds
                self.losses, step = list(resumed.losses), start.step
            self._train(epoch, step)
            trained = time.perf_counter()
            due = epoch % a.ckpt_save_interval == 0 or epoch == a.epoch_size
            if due and (epoch, step) != (start.epoch, len(self.loader)):
                self._save(epoch, len(self.loader))
            validation_start = time.perf_counter()
            result = self._validate(epoch) if epoch % a.val_interval == 0 or epoch == a.epoch_size else None
            top1 = result.tally.percent("top1") if result else None
            self.report.epoch(
                epoch,
                sum(self.losses) / len(self.losses),
                top1,
                result.tally.percent("top5") if result and self.training.spec.num_classes >= 5 else None,
                result.tally.loss if result else None,
                trained - self.epoch_start,
                time.perf_counter() - validation_start if result else 0.0,
            )
            if due and self.processes.rank == 0:
                arrays = self.training.averaged or self.training.dumped()
                self.keeper.save(arrays, epoch, len(self.loader), math.nan if top1 is None else top1)
            self._stop_after(epoch)
            summary = str(result.tally.summary()) if result else ""
        return summary

    def resume_command(self) -> str:
        """A sentence with the last good checkpoint and the command that resumes from it."""
        keeper = self.keeper
        if keeper.position is None:
            return "there is no checkpoint yet"
        words: list[str | Path] = ["-c", keeper.folder / f"{self.training.spec.name}.yaml", "--resume"]
        if keeper.source != keeper.newest:
            words.append(keeper.source)
        line = command(self.processes, self.a.backend, *words)
        return f"the last checkpoint is {keeper.source} ({keeper.position}); to resume from it: {line}"

    def _train(self, epoch: int, done: int) -> None:
        """Train on the batches of an epoch that follow the first `done`."""
        a, training, report = self.a, self.training, self.report
        steps, lr, save_due, number = len(self.loader), 0.0, False, 0
        for step, batch in enumerate(self.loader.epoch(epoch - 1, done), done + 1):
            share = self.loader.share_of(step - 1)
            views = len(batch.images) // share.images
            training.seed(at_position(a.seed, epoch, step), share.first * views, share.total * views)
            lr = self.schedule((epoch - 1) * steps + step - 1)
            loss = training.step(batch.images, batch.targets, lr, share.total * views)
            weight = share.images / share.total if a.reduction == "mean" else 1.0
            self.unread.append(Unread(step, loss, lr, weight, batch.indices))
            save_due |= bool(a.recovery_interval and step % a.recovery_interval == 0)
            if report.is_due(step) or save_due or number or self._may_stop(step):
                number = self._read_losses(epoch)
            report.step(epoch, step, None if self.unread else self.losses[-1], lr, share.total)
            if (save_due or number) and not training.pending and step < steps:
                self._save(epoch, step)
                save_due = False
                if number:
                    self._stop(number)
        training.flush(lr)

    def _may_stop(self, step: int) -> bool:
        """Whether to look for a signal after a step; the answer is the same in all processes."""
        return step % AGREE_INTERVAL == 0 if self.processes.size > 1 else bool(self.signals.number)

    def _read_losses(self, epoch: int) -> int:
        """Read the losses of the steps since the last call, which waits for the device.

        With several processes they become the losses of all processes' images. Returns the number of a signal that one
        of the processes has received, the same in all of them, or 0. Raises TrainingError for a loss that is not
        finite, so that nothing is saved after it.
        """
        unread, self.unread = self.unread, []
        losses = [float(one.loss) for one in unread]
        losses, number = self._agree([loss * one.weight for loss, one in zip(losses, unread, strict=True)], losses)
        for loss, one in zip(losses, unread, strict=True):
            if not math.isfinite(loss):
                raise self._not_finite(epoch, one, loss)
            self.losses.append(loss)
        return number

    def _agree(self, weighted: Sequence[float] = (), own: Sequence[float] = ()) -> tuple[list[float], int]:
        """Exchange losses, signals and skipped images with the other processes. All processes must call this.

        Returns the sums of `weighted` over all processes (`own` for one process alone), and the number of the signal
        to stop at, or 0.
        """
        skipped = dict(self.loader.skipped)
        new = len(skipped) != self.known_skipped
        self.known_skipped = len(skipped)
        received = [float(self.signals.number == number) for number in STOP_SIGNALS]
        losses = list(own)
        if self.processes.size > 1:
            total = self.processes.total([*weighted, float(new), *received]).tolist()
            losses, (new, *received) = total[: len(losses)], total[len(losses) :]
        if new:
            self.skipped.add(self.loader.dataset, skipped)
        return losses, next((number for number, many in zip(STOP_SIGNALS, received, strict=True) if many), 0)

    def _validate(self, epoch: int) -> Evaluation | None:
        if self.evaluator is None or self.validation is None:
            return None
        self._stop_in_validation(epoch)
        result = evaluate(
            self.evaluator.classifier(),
            self.validation,
            self.training.spec.num_classes,
            lambda done, total: self._stop_in_validation(epoch),
            self.processes,
        )
        self.skipped.add(self.validation.dataset, self.validation.skipped)
        return result

    def _stop_in_validation(self, epoch: int) -> None:
        """Stop at a signal: the resumed run repeats the validation. Several processes finish the validation first."""
        if self.signals.number and self.processes.size == 1:
            self._save_and_stop(epoch, self.signals.number)

    def _stop_after(self, epoch: int) -> None:
        """Stop after an epoch if a process has received a signal since the last batch."""
        _, number = self._agree()
        if number and epoch < self.a.epoch_size:
            self._save_and_stop(epoch, number)

    def _save_and_stop(self, epoch: int, number: int) -> NoReturn:
        if self.keeper.position != Position(epoch, len(self.loader)) or self.keeper.source != self.keeper.newest:
            self._save(epoch, len(self.loader))
        self._stop(number)

    def _save(self, epoch: int, step: int) -> None:
        if self.processes.rank == 0:
            self.keeper.save_state(
                State(
                    Position(epoch, step),
                    self.training.saved(),
                    self.losses,
                    to_yaml(self.a),
                    len(self.loader.dataset),
                    self.loader.batch_size * self.processes.size,
                    len(self.loader),
                    time.perf_counter() - self.epoch_start,
                    self.training.spec,
                    self.keeper.classes,
                    self.report.rates,
                )
            )

    def _stop(self, number: int) -> NoReturn:
        """Print how to resume, and stop with the other processes: launchers end all processes when one has ended."""
        message = f"stopped by {signal.Signals(number).name}; {self.resume_command()}"
        if self.processes.rank == 0:
            say(message)
        self.processes.wait()
        raise Stopped(message, number)

    def _not_finite(self, epoch: int, failed: Unread, loss: float) -> TrainingError:
        data, path = self.loader.dataset, self.keeper.folder / "failed_batch.csv"
        indices = self.processes.gather(failed.indices.tobytes())
        images = [data.path(int(index)) for own in indices for index in np.frombuffer(own, np.int64)]
        images = list(dict.fromkeys(images))
        if self.processes.rank == 0:
            write_csv(path, ("image",), ([image] for image in images))
        more = f", ... ({len(images)} in all: {path})" if len(images) > SHOWN else ""
        return TrainingError(
            f"epoch {epoch}, batch {failed.step}: the loss is {loss}: choose a smaller --lr (it is {failed.lr:g}), "
            f"--clip_grad, or a longer --warmup_epochs; the batch: {', '.join(images[:SHOWN])}{more}"
        )


class Evaluator:
    """The network to validate: the one in training, or with --ema a second one with its weights' moving average."""

    def __init__(self, a: Arguments, training: Trainer) -> None:
        self.backend, self.training = get(a.backend), training
        self.net = training.net
        if training.plan.ema is not None:
            self.net = self.backend.build(training.spec, runtime.device(a))
        self._classify = deploys(a.backend).classifier(self.net, training.plan.graph, a.val_amp_level != "O0")

    def classifier(self) -> Predict:
        """A function of images, with the current weights."""
        if self.training.plan.ema is not None:
            self.backend.load(self.net, self.training.averaged)
        return self._classify


def save_recipe(a: Arguments, folder: Path) -> None:
    """Write the run's flags as MODEL.yaml, from which it resumes. A model that has no registered name is saved too."""
    model = weights.resolve(a.model)
    if a.model not in models() and a.model not in ALIASES:
        path = folder / f"{model.name}.json"
        with atomic_write(path) as part:
            part.write_text(to_json(model, indent=1) + "\n", encoding="utf-8")
        start = a.ckpt_path
        if not start and (file := resume.initial_weights(a)):
            start = (str(file),)
        a = a.replace(model=str(path), pretrained=False, ckpt_path=start)
    save_yaml(a.replace(resume=None, resume_opt=False), folder / f"{model.name}.yaml")


def _reason(error: Exception, processes: Processes) -> str:
    """Why the run has ended. Raises the error itself if it is a fault of the program."""
    match error:
        case OSError():
            return f"{error.filename or 'the disk'}: {error.strerror or error}"
        case RuntimeError() if processes.size == 1 or not speaks_of_others(error):
            raise error
        case RuntimeError():
            return str(lost(error))
    return str(error)


def _summary(a: Arguments, training: Trainer, data: Dataset, steps: int) -> str:
    model, processes = training.spec, training.processes
    mode = "compiled" if training.plan.graph else "eager"
    several = f" on each of {processes.size} processes" if processes.size > 1 else ""
    return (
        f"{model.name}, width {model.width:g}, {model.size} pixels, {model.num_classes} classes, "
        f"in {a.backend} {get(a.backend).version()}, {mode}; {len(data)} images of {data.name}, {steps} batches of "
        f"{a.batch_size}{several} an epoch; output in {a.ckpt_save_dir}"
    )
