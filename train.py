"""Train a network of the zoo, in any framework: mindcv's flags plus --backend. `python train.py --help` lists them.

    python train.py -c configs/digits.yaml --backend mindspore

The loop is below. `zoo.training.recipe` turns flags into datasets, a network and a plan; the loader gives every
framework the same pixels in the same order; the backend supplies a training step; `zoo.training.state` keeps what a run
goes on from, after a signal, a crash or a full disk. With --distribute this is one process of several.
"""

from __future__ import annotations

import math
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import numpy as np

import weights
from backends import deploys, get
from backends.training import Trainer, trainer
from zoo.commands import runtime
from zoo.commands.entry_point import Signals, command, run, say
from zoo.data import Batch, Loader
from zoo.data.loader import at_position
from zoo.errors import Stopped, TrainingError, ZooError
from zoo.files import write_csv
from zoo.training import recipe, state
from zoo.training.evaluation import Evaluation, Predict, evaluate
from zoo.training.flags import Arguments, changes, parse, remarks, save_yaml, to_yaml
from zoo.training.processes import Processes, lost, speaks_of_others
from zoo.training.report import Reporter, reported
from zoo.training.schedules import Schedule
from zoo.training.skipped import BadImages
from zoo.training.state import Keeper, Position, State


def main(arguments: Sequence[str] | None = None) -> int:
    a = parse(arguments, "train")
    for sentence in remarks(a):
        recipe.logger.warning(sentence)
    get(a.backend)  # missing frameworks first
    processes = runtime.processes(a)
    folder, first = Path(a.ckpt_save_dir), processes.rank == 0

    with ExitStack() as stack:
        locked = first and folder.is_dir()
        if locked:  # before its files are read
            stack.enter_context(state.lock(folder))
        processes.wait()

        # Everything that can be wrong with the flags, before anything is written or takes long.
        since = _since(a)
        begin = since.path if since else processes.first(lambda: _weights(a))
        data = processes.first(lambda: recipe.dataset(a, a.train_split))
        held_out = recipe.held_out(a, data) if a.val_while_train else None
        network = recipe.network(a, data, begin, processes.size)
        model = network.model
        loader = recipe.training_loader(a, data, model, processes)
        validation = None if held_out is None else recipe.validation_loader(a, held_out, model, processes)
        schedule = recipe.schedule(a, len(loader))
        plan = recipe.plan(a, model)
        start = _start(a, since, loader) if since else Position(1, 0)
        if first and not locked:
            stack.enter_context(state.lock(folder))
        if first:
            copies = len(plan.optimizer.slots) + 1 + (plan.ema is not None)
            keep = a.keep_checkpoint_max if a.ckpt_save_policy else None
            state.room(folder, model, copies, a.keep_state_max, keep)
        training = trainer(a.backend, runtime.build(a, network), plan, processes)
        if since:
            training.resume(since.arrays)
            since = replace(since, arrays={})  # which may be a gigabyte

        processes.wait()  # all have read what they need
        goes_on = since is not None and since.path.resolve().parent == folder.resolve()
        if first:
            state.set_aside(folder, model.name, since.position if since and goes_on else None)
            save_yaml(a.replace(resume=None, resume_opt=False), folder / f"{model.name}.yaml")
        processes.wait()
        keeper = Keeper(folder, model, a.keep_checkpoint_max, a.ckpt_save_policy, a.keep_state_max, since, data.classes)
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
            )
        )
        report.message(_what(a, training, len(data), len(loader)))
        if since:
            report.message(f"going on from {since.path}: {since.position}")
        bad = BadImages(folder / "bad_images.csv", processes, goes_on)
        loop = Loop(a, training, loader, validation, schedule, keeper, report, bad, signals)
        try:
            summary = loop.run(start, since if since and start.epoch == since.position.epoch else None)
        except (ZooError, OSError, RuntimeError) as error:
            reason = _reason(error, processes)
            raise TrainingError(f"{reason}; {loop.way_on()}" if first else reason) from None
        if len(bad):
            report.message(f"{len(bad)} images could not be read: {bad.path}")
        if summary:
            report.message(summary)
    processes.leave()
    return 0


SHOWN = 3
"""Images of a batch that an error names."""

STOPS = (signal.SIGTERM, signal.SIGINT)


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
        bad: BadImages,
        signals: Signals,
    ) -> None:
        self.a, self.training, self.loader, self.validation, self.schedule = a, training, loader, validation, schedule
        self.keeper, self.report, self.bad, self.signals = keeper, report, bad, signals
        self.processes = training.processes
        self.judge = Judge(a, training) if validation else None
        self.losses: list[float] = []
        self.begun = 0.0

    def run(self, start: Position, since: State | None) -> str:
        """Train and validate from a position on, the state's if that is of the same epoch; returns the last figures."""
        a, summary = self.a, ""
        for epoch in range(start.epoch, a.epoch_size + 1):
            self.begun, self.losses, step = time.perf_counter(), [], 0
            if since and epoch == start.epoch:
                self.begun, self.losses, step = self.begun - since.seconds, list(since.losses), start.step
            self._learn(epoch, step)
            trained = time.perf_counter()
            due = epoch % a.ckpt_save_interval == 0 or epoch == a.epoch_size
            if due and (epoch, step) != (start.epoch, len(self.loader)):
                self._save(epoch, len(self.loader))
            result = self._validate(epoch) if epoch % a.val_interval == 0 or epoch == a.epoch_size else None
            top1 = result.tally.percent("top1") if result else None
            self.report.epoch(
                epoch,
                sum(self.losses) / len(self.losses),
                top1,
                result.tally.percent("top5") if result and self.training.spec.num_classes >= 5 else None,
                result.tally.loss if result else None,
                trained - self.begun,
                time.perf_counter() - trained,
            )
            if due and self.processes.rank == 0:
                arrays = self.training.averaged or self.training.dumped()
                self.keeper.save(arrays, epoch, len(self.loader), math.nan if top1 is None else top1)
            self._end(epoch)
            summary = str(result.tally.summary()) if result else ""
        return summary

    def way_on(self) -> str:
        """The last good checkpoint, and the command that goes on from it."""
        keeper = self.keeper
        if keeper.last is None:
            return "there is no checkpoint yet"
        words: list[str | Path] = ["-c", keeper.folder / f"{self.training.spec.name}.yaml", "--resume"]
        if keeper.source != keeper.newest:
            words.append(keeper.source)
        how = command(self.processes, self.a.backend, *words)
        return f"the last checkpoint is {keeper.source} ({keeper.last}); to go on from it: {how}"

    def _learn(self, epoch: int, done: int) -> None:
        """An epoch's batches after the first `done`."""
        a, training = self.a, self.training
        steps, lr, owed = len(self.loader), 0.0, False
        for step, batch in enumerate(self.loader.epoch(epoch - 1, done), done + 1):
            part = self.loader.part(step - 1)
            views = len(batch.images) // part.images
            training.seed(at_position(a.seed, epoch, step), part.first * views, part.total * views)
            lr = self.schedule((epoch - 1) * steps + step - 1)
            loss = float(training.step(batch.images, batch.targets, lr, part.total * views))
            loss, number = self._agree(loss, part.images, part.total)
            if not math.isfinite(loss):
                raise self._not_finite(epoch, step, loss, lr, batch)
            self.losses.append(loss)
            self.report.step(epoch, step, loss, lr, part.total)
            owed |= bool(a.recovery_interval and step % a.recovery_interval == 0)
            if (owed or number) and not training.pending and step < steps:
                self._save(epoch, step)
                owed = False
                if number:
                    self._stop(number)
        training.flush(lr)

    def _agree(self, loss: float, images: int, total: int) -> tuple[float, int]:
        """The loss of all processes' images, and the signal that stops them; images that one could not read are noted.

        What is agreed on is the same for all, whatever has come to this one meanwhile.
        """
        bad = dict(self.loader.bad)
        new = len(bad) != self._known
        self._known = len(bad)
        came = [self.signals.number == number for number in STOPS]
        if self.processes.size > 1:
            weight = 1.0 if self.a.reduction == "sum" else images / total
            loss, new, *came = self.processes.total([loss * weight, new, *came]).tolist()
        if new:
            self.bad.add(self.loader.dataset, bad)
        return loss, next((number for number, many in zip(STOPS, came, strict=True) if many), 0)

    _known = 0
    """Images of the loader that could not be read and are noted."""

    def _validate(self, epoch: int) -> Evaluation | None:
        if self.judge is None or self.validation is None:
            return None
        self._stop_before_validation(epoch)
        result = evaluate(
            self.judge.classifier(),
            self.validation,
            self.training.spec.num_classes,
            lambda done, total: self._stop_before_validation(epoch),
            self.processes,
        )
        self.bad.add(self.validation.dataset, self.validation.bad)
        return result

    def _stop_before_validation(self, epoch: int) -> None:
        """Stop at a signal; the epoch is validated when the run goes on. Several processes end validation first."""
        if self.signals.number and self.processes.size == 1:
            self._save_and_stop(epoch, self.signals.number)

    def _end(self, epoch: int) -> None:
        """Stop after an epoch where a signal has come to a process that none of its batches has stopped at."""
        _, number = self._agree(0.0, 1, 1)
        if number and epoch < self.a.epoch_size:
            self._save_and_stop(epoch, number)

    def _save_and_stop(self, epoch: int, number: int) -> NoReturn:
        if self.keeper.last != Position(epoch, len(self.loader)) or self.keeper.source != self.keeper.newest:
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
                    time.perf_counter() - self.begun,
                )
            )

    def _stop(self, number: int) -> NoReturn:
        """Say how to go on, and leave together: launchers end all processes when one has ended."""
        message = f"stopped by {signal.Signals(number).name}; {self.way_on()}"
        if self.processes.rank == 0:
            say(message)
        self.processes.wait()
        raise Stopped(message, number)

    def _not_finite(self, epoch: int, step: int, loss: float, lr: float, batch: Batch) -> TrainingError:
        data, path = self.loader.dataset, self.keeper.folder / "failed_batch.csv"
        parts = self.processes.gather(batch.indices.tobytes())
        images = [data.path(int(index)) for part in parts for index in np.frombuffer(part, np.int64)]
        images = list(dict.fromkeys(images))
        if self.processes.rank == 0:
            write_csv(path, ("image",), ([image] for image in images))
        more = f", ... ({len(images)} in all: {path})" if len(images) > SHOWN else ""
        return TrainingError(
            f"epoch {epoch}, batch {step}: the loss is {loss}: take a smaller --lr (it is {lr:g}), --clip_grad, or a "
            f"longer --warmup_epochs; the batch: {', '.join(images[:SHOWN])}{more}"
        )


class Judge:
    """What is validated: the network in training, or with --ema the average of its weights in a network of its own."""

    def __init__(self, a: Arguments, training: Trainer) -> None:
        self.backend, self.training = get(a.backend), training
        self.net = training.net
        if training.plan.ema is not None:
            self.net = self.backend.build(training.spec, runtime.device(a))
        self._classify = deploys(a.backend).classifier(self.net, training.plan.graph, a.val_amp_level != "O0")

    def classifier(self) -> Predict:
        """A function of images, with the weights as they are now."""
        if self.training.plan.ema is not None:
            self.backend.load(self.net, self.training.averaged)
        return self._classify


def _since(a: Arguments) -> State | None:
    """The state that the run goes on from."""
    name = weights.resolve(a.model).name
    if a.resume_opt and not a.ckpt_path and not a.resume:
        raise TrainingError("--resume_opt: give the checkpoint to go on from with --ckpt_path FILE, or --resume")
    if a.resume == "auto":
        return state.newest(a.ckpt_save_dir, name)
    if a.resume and Path(a.resume).is_dir():
        return state.newest(a.resume, name)
    if a.resume or a.resume_opt:
        flag, path = ("--resume", a.resume) if a.resume else ("--ckpt_path", a.ckpt_path)
        return state.state_of(_one(path, flag), name, a.ckpt_save_dir)
    return None


def _weights(a: Arguments) -> Path | None:
    """The checkpoint whose weights a new run begins with."""
    if a.pretrained:
        return weights.published.fetch(weights.resolve(a.model).name)
    return _one(a.ckpt_path, "--ckpt_path") if a.ckpt_path else None


def _one(path: str, flag: str) -> Path:
    found = list(recipe.checkpoints([path], flag))
    if len(found) > 1:
        raise TrainingError(f"{flag} {path}: {len(found)} checkpoints in it: give one of them, e.g. {found[-1]}")
    return found[0]


def _start(a: Arguments, since: State, loader: Loader) -> Position:
    """Where a run goes on; names what has changed since. Raises TrainingError where the position means another now."""
    images, batch = len(loader.dataset), loader.batch_size * loader.share[1]
    if since.position.step != since.steps and (since.images, since.batch) != (images, batch):
        raise TrainingError(
            f"{since.path}: from the middle of an epoch of {since.images} images in batches of {since.batch}, and here "
            f"are {images} in batches of {batch}: go on as it was begun, or from the end of an epoch"
        )
    changed = changes(a, since.flags)
    if (since.images, since.batch) != (images, batch):
        changed.append(f"{images} images, {batch} a step (was {since.images}, {since.batch})")
    if changed:
        recipe.logger.warning("the run goes on by other flags: %s", ", ".join(changed))
    epoch, step = since.position
    start = Position(epoch, min(step, len(loader)))
    folder, name = since.path.parent, weights.resolve(a.model).name
    if step == since.steps:  # the epoch's validation comes first, unless it is reported, and its weights are written
        due = epoch % a.ckpt_save_interval == 0 or epoch >= a.epoch_size
        reported_too = any(row.number == epoch for row in reported(folder / "result.log"))
        done = reported_too and (not due or state.has_weights(folder, name, epoch))
        start = Position(epoch + 1, 0) if done else Position(epoch, len(loader))
    if start.epoch > a.epoch_size:
        raise TrainingError(f"{folder}: this run is done with its {a.epoch_size} epochs: give a larger --epoch_size")
    return start


def _reason(error: Exception, processes: Processes) -> str:
    """What has ended the run. Raises the error itself where it is a fault of the program."""
    match error:
        case OSError():
            return f"{error.filename or 'the disk'}: {error.strerror or error}"
        case RuntimeError() if processes.size == 1 or not speaks_of_others(error):
            raise error
        case RuntimeError():
            return str(lost(error))
    return str(error)


def _what(a: Arguments, training: Trainer, images: int, steps: int) -> str:
    model, processes = training.spec, training.processes
    how = "compiled" if training.plan.graph else "eager"
    several = f" on each of {processes.size} processes" if processes.size > 1 else ""
    return (
        f"{model.name}, width {model.width:g}, {model.size} pixels, {model.num_classes} classes, "
        f"in {a.backend} {get(a.backend).version()}, {how}; {images} images of {a.dataset}, {steps} batches of "
        f"{a.batch_size}{several} an epoch; everything goes to {a.ckpt_save_dir}"
    )


if __name__ == "__main__":
    sys.exit(run(main))
