"""The script that test_processes.py runs in one process and in two: loss and gradients of a first step, and the weights
after 8 steps.

    LAUNCHER several.py FRAMEWORK FOLDER SPLIT GRAPH

SPLIT batches make an update. Batch norm is frozen and dropout is on. A further step trains batch norm, and the first
layer's running mean after it is recorded. Process 0 writes FOLDER/N.npz, where N is the number of processes.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import numpy as np

import weights
import zoo
from backends import get
from backends.processes import join
from backends.training import trainer
from zoo.commands.entry_point import run
from zoo.data import Augment, Loader, open_dataset
from zoo.data.loader import at_position
from zoo.frameworks import FRAMEWORKS
from zoo.language.model import Model
from zoo.training.optimizers import Optimizer
from zoo.training.plan import Plan, groups
from zoo.training.processes import Processes

SMALL = Path(__file__).parents[1] / "small.json"
BATCH, STEPS, RATE = 16, 8, 1e-4


def main(framework: str, folder: str, split: int, graph: bool) -> int:
    backend = get(framework)
    processes = join(framework, FRAMEWORKS[framework].launcher.started() > 1)
    model = zoo.spec(SMALL)
    net = backend.build(model)
    arrays = weights.initial(model, 0)
    arrays["head.fc.bias"] = arrays["head.fc.weight"][:, 0].copy()  # not 0: errors are relative to the largest element
    backend.load(net, arrays)
    frozen = groups(model, freeze=["*.bn.*"])
    plan = Plan(Optimizer("sgd", momentum=0.0), frozen, accumulate=split, graph=graph)
    training = trainer(framework, net, plan, processes)
    loader = Loader(
        open_dataset("digits", ".", "train"),
        Augment(model.size),
        BATCH // processes.size,
        shuffle=True,
        workers=2,
        share=(processes.rank, processes.size),
    )
    found, seen = {}, []
    for step, batch in enumerate(loader.epoch(0)):
        if step == STEPS * split:
            break
        part = loader.share_of(step)
        training.seed(at_position(0, 1, step), part.first, part.total)
        if step == 0:
            loss = float(training.backward(batch.images, batch.targets, 1.0)) * len(batch.images)
            found |= {f"gradient/{name}": array for name, array in training.gradients().items()}
            training.clear()
            training.seed(at_position(0, 1, step), part.first, part.total)
        training.step(batch.images, batch.targets, RATE, part.total)
        seen += batch.indices.tolist()
    found |= {f"weight/{name}": array for name, array in training.dumped().items()}
    found["statistic"] = statistic(framework, model, processes, loader)
    found["loss"] = processes.total(loss) / BATCH
    found["seen"] = np.sort(
        np.concatenate([np.frombuffer(b, "i8") for b in processes.gather(np.array(seen).tobytes())])
    )
    if processes.rank == 0:
        np.savez(Path(folder) / f"{processes.size}.npz", **found)
    processes.leave()
    return 0


def statistic(framework: str, model: Model, processes: Processes, loader: Loader) -> np.ndarray:
    """The first running mean after a step in which batch norm is trained, over the images of all processes."""
    net = get(framework).build(model)
    get(framework).load(net, weights.initial(model, 0))
    training = trainer(framework, net, Plan(Optimizer("sgd", momentum=0.0), groups(model)), processes)
    batch = next(loader.epoch(0))
    training.step(batch.images, batch.targets, RATE)
    return training.dumped()["stem.0.bn.mean"]


sys.exit(run(lambda: main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4] == "1")))
