"""The networks that public threads are about, and the weights and images that they are run with: see threads.py.

`zoo parity MODEL --against thread_networks:NAME` compares one, in this folder. Each is a publisher's own class with
weights drawn from seed 0; some are changed as the thread describes.
"""

import functools
import importlib
import re
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))
sys.path.insert(0, str(Path(__file__).parent))

from certify import Publisher
from publishers import import_torchvision

import weights
import zoo
from zoo.data.images import preprocess, sample_photographs
from zoo.language.interpreter import Interpreter
from zoo.parity.bands import bands


def seeded(build):
    import torch

    torch.manual_seed(0)
    return build().eval()


def torchvision_v3():
    return seeded(Publisher("torchvision", "inception_v3"))


def torchvision_googlenet():
    return seeded(Publisher("torchvision", "googlenet"))


def timm_v3():
    return seeded(Publisher("timm", "inception_v3"))


def cadene(name):
    import_torchvision()
    module = importlib.import_module(f"pretrainedmodels.models.{name}")
    return seeded(lambda: getattr(module, name)(num_classes=1000, pretrained=None))


def transforming_v3():
    """As torchvision's factory makes it when weights are given."""
    return change(torchvision_v3(), "Inception3", transform_input=True)


def transforming_googlenet():
    return change(torchvision_googlenet(), "GoogLeNet", transform_input=True)


def converted():
    """Cadene's BN-Inception with the average pools of MMdnn's code."""
    return change(cadene("bninception"), "AvgPool2d", count_include_pad=False)


def momentum_zero():
    """Cadene's Inception-v4 as it was in July 2017."""
    return change(cadene("inceptionv4"), "BatchNorm2d", momentum=0.0)


def unused_relus():
    """Cadene's BN-Inception as it was in 2018: no ReLU's output is used, but each ReLU overwrites its input."""
    return unused(cadene("bninception"), ".*relu.*", inplace=True)


def unused_relus_not_in_place():
    """The same for the four ReLUs before one concatenation, with ReLUs that leave their input alone."""
    return unused(cadene("bninception"), "inception_3b_relu_(1x1|3x3|double_3x3_2|pool_proj)", inplace=False)


def change(net, kind, **values):
    """Set attributes of all modules of a class, named by its name."""
    for module in net.modules():
        if type(module).__name__ == kind:
            for name, value in values.items():
                setattr(module, name, value)
    return net


def unused(net, pattern, inplace):
    import torch

    class Unused(torch.nn.Module):
        def forward(self, x):
            torch.nn.functional.relu(x, inplace)
            return x

    for name, _ in list(net.named_children()):
        if re.fullmatch(pattern, name):
            setattr(net, name, Unused())
    return net


# What they are run with


def photographs(spec):
    return np.stack([preprocess(spec, image) for image in sample_photographs()])


@functools.cache
def calibrated(name):
    return weights.calibrated(zoo.spec(name))


@functools.cache
def judged(name):
    """A spec without auxiliary heads, its weights, the photographs, the float64 logits and their band."""
    full = zoo.spec(name)
    spec = replace(full, aux=())
    arrays, x = weights.restrict(calibrated(name), spec, full), photographs(spec)
    expected = Interpreter(spec, {key: array.astype(np.float64) for key, array in arrays.items()}).tape(x)["logits"]
    return spec, arrays, x, expected, bands(spec, arrays, x, {"logits": expected})["logits"]


def torchvision_with_weights(name, **options):
    """A class of torchvision with auxiliary heads and calibrated weights."""
    import torch

    net = getattr(import_torchvision(), name)(weights=None, init_weights=False, aux_logits=True, **options)
    with tempfile.TemporaryDirectory() as folder:
        weights.write(Path(folder, "net.pth"), calibrated(name), zoo.spec(name), to="torchvision")
        net.load_state_dict(torch.load(Path(folder, "net.pth"), weights_only=True))
    return net.eval()


def logits(net, x):
    import torch

    with torch.no_grad():
        return net(torch.from_numpy(x)).numpy()


def with_imagenet_normalisation(spec):
    how = replace(spec.preprocess, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    return replace(spec, preprocess=how)
