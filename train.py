"""Train a network of the zoo, in any framework: mindcv's flags plus --backend. `python train.py --help` lists them.

    python train.py -c configs/digits.yaml --backend mindspore

The loop is below. `zoo.training.recipe` turns flags into datasets, a network and a plan; the loader gives every
framework the same pixels in the same order; the backend supplies a training step.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import weights
from backends import get
from backends.device import parse as device
from backends.training import Trainer, trainer
from zoo.catalogue import spec
from zoo.data.loader import at_position
from zoo.errors import TrainingError
from zoo.training import recipe, state
from zoo.training.evaluation import Evaluation, Predict, evaluate
from zoo.training.flags import Arguments, parse, remarks, save_yaml
from zoo.training.program import run
from zoo.training.report import Reporter


def main(arguments: Sequence[str] | None = None) -> int:
    a = parse(arguments, "train")
    for sentence in remarks(a):
        recipe.logger.warning(sentence)
    get(a.backend)  # missing frameworks first

    # Everything that can be wrong with the flags, before anything takes long.
    begin = _begin(a)
    data = recipe.dataset(a, a.train_split)
    held_out = recipe.held_out(a, data) if a.val_while_train else None
    network = recipe.network(a, data, begin)
    model = network.model
    loader = recipe.training_loader(a, data, model)
    validation = None if held_out is None else recipe.validation_loader(a, held_out, model)
    schedule = recipe.schedule(a, len(loader))
    plan = recipe.plan(a, model)
    done = state.epoch_of(begin) if begin and (a.resume or a.resume_opt) else 0
    if done >= a.epoch_size:
        raise TrainingError(f"{begin}: it was written after epoch {done}, and --epoch_size is {a.epoch_size}")
    held = state.read_state(_beside(begin, a, model.name), done) if begin and done else {}
    folder = _folder(a.ckpt_save_dir)
    keeper = state.Keeper(folder, model, a.keep_checkpoint_max, a.ckpt_save_policy, done, data.classes)

    net = network.build(a)
    training = trainer(a.backend, net, plan)
    if done:
        training.resume(held)
    save_yaml(a, folder / f"{model.name}.yaml")
    with Reporter(
        folder,
        model.name,
        a.epoch_size,
        len(loader),
        mode=a.progress,
        log_interval=a.log_interval,
        tensorboard=a.tensorboard,
        start_epoch=done,
    ) as report:
        report.message(_what(a, training, len(data), len(loader)))
        judge = Judge(a, training) if validation else None
        for epoch in range(done + 1, a.epoch_size + 1):
            start, losses = time.perf_counter(), []
            for step, batch in enumerate(loader.epoch(epoch - 1), 1):
                training.seed(at_position(a.seed, epoch, step))
                lr = schedule((epoch - 1) * len(loader) + step - 1)
                loss = float(training.step(batch.images, batch.targets, lr))
                if not math.isfinite(loss):
                    raise TrainingError(
                        f"epoch {epoch}, batch {step}: the loss is {loss}: take a smaller --lr (it is {lr:g}), "
                        "--clip_grad, or a longer --warmup_epochs"
                    )
                losses.append(loss)
                report.step(epoch, step, loss, lr, len(batch.images))
            training.flush(lr)
            trained = time.perf_counter()
            result: Evaluation | None = None
            if judge and validation and (epoch % a.val_interval == 0 or epoch == a.epoch_size):
                result = evaluate(judge.classifier(), validation, model.num_classes)
            top1 = result.tally.percent("top1") if result else None
            report.epoch(
                epoch,
                sum(losses) / len(losses),
                top1,
                result.tally.percent("top5") if result and model.num_classes >= 5 else None,
                result.tally.loss if result else None,
                trained - start,
                time.perf_counter() - trained,
            )
            if epoch % a.ckpt_save_interval == 0 or epoch == a.epoch_size:
                keeper.save(
                    training.averaged or training.dumped(),
                    training.saved(),
                    epoch,
                    len(loader),
                    math.nan if top1 is None else top1,
                )
        if result is not None:
            report.message(str(result.tally.summary()))
    return 0


class Judge:
    """What is validated: the network in training, or with --ema the average of its weights in a network of its own."""

    def __init__(self, a: Arguments, training: Trainer) -> None:
        self.backend, self.training = get(a.backend), training
        self.net = training.net if training.plan.ema is None else self.backend.build(training.spec, device(a.device))
        self._classify = self.backend.classifier(self.net, training.plan.graph, a.val_amp_level != "O0")

    def classifier(self) -> Predict:
        """A function of images, with the weights as they are now."""
        if self.training.plan.ema is not None:
            self.backend.load(self.net, self.training.averaged)
        return self._classify


def _beside(begin: Path, a: Arguments, model: str) -> Path:
    """The optimizer's file that belongs to a checkpoint: beside it, or in the run's folder."""
    name = f"optim_{model}.ckpt"
    return begin.with_name(name) if begin.with_name(name).exists() else Path(a.ckpt_save_dir) / name


def _folder(name: str) -> Path:
    """The folder of the run's files, made where it is missing. Raises TrainingError."""
    try:
        Path(name).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TrainingError(f"--ckpt_save_dir {name}: cannot make this folder: {error.strerror}") from None
    return Path(name)


def _begin(a: Arguments) -> Path | None:
    """The checkpoint that the run begins with."""
    if a.resume == "auto":
        return state.newest(a.ckpt_save_dir, spec(a.model).name)
    if a.resume_opt and not a.ckpt_path and not a.resume:
        raise TrainingError("--resume_opt: give the checkpoint to go on from with --ckpt_path FILE, or --resume")
    if a.pretrained and not a.resume:
        return weights.published.fetch(spec(a.model).name)
    if a.resume and Path(a.resume).is_dir():
        return state.newest(a.resume, spec(a.model).name)
    flag, path = ("--resume", a.resume) if a.resume else ("--ckpt_path", a.ckpt_path)
    found = list(recipe.checkpoints([path], flag)) if path else []
    if len(found) > 1:
        raise TrainingError(f"{flag} {path}: {len(found)} checkpoints in it: give one of them, e.g. {found[-1]}")
    return found[0] if found else None


def _what(a: Arguments, training: Trainer, images: int, steps: int) -> str:
    model = training.spec
    how = "compiled" if training.plan.graph else "eager"
    return (
        f"{model.name}, width {model.width:g}, {model.size} pixels, {model.num_classes} classes, "
        f"in {a.backend} {get(a.backend).version()}, {how}; {images} images of {a.dataset}, {steps} batches of "
        f"{a.batch_size} an epoch; everything goes to {a.ckpt_save_dir}"
    )


if __name__ == "__main__":
    sys.exit(run(main))
