"""How code for a framework is written; backends/*/source.py has a `DIALECT` for `zoo source` and a `SCRIPT` each."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Uses:
    """What a network uses, so that its file has no code for anything else.

    functions      names of the layers and blocks that are called: "Conv", "AvgPool", ...
    conv           keywords in calls of convolutions: "padding", "dilation", "bias", "norm", "act"
    residual       keywords in calls of residual sums: "shortcut", "scale", "act"
    classifier     keywords in calls of classifiers: "hidden", "dropout", "pool", "act"
    max_pools      paddings of max pools: "half", "valid", "same", "ceil"
    avg_pools      paddings of average pools: "half", "valid", and "equal" for "half" that keeps the size
    same           whether a convolution has TensorFlow's SAME padding
    norm           epsilon and decay of batch norm, if there is any
    counted        the values of count_include_pad that occur
    """

    functions: frozenset[str]
    conv: frozenset[str]
    residual: frozenset[str]
    classifier: frozenset[str]
    max_pools: frozenset[str]
    avg_pools: frozenset[str]
    same: bool
    norm: tuple[float, float] | None
    counted: frozenset[bool]


@dataclass(frozen=True)
class Dialect:
    """How a framework writes what all networks share. In a text, {} is where a number of channels or a layer goes.

    suffix      of the files that `zoo convert --to` writes for it
    imports     the first lines of a file
    module      the class that layers and networks derive from
    forward     the name of the method that runs one
    names       what it calls "Sequential", "ReLU" and "AdaptiveAvgPool"
    identity    the layer that does nothing
    convolution statements of Conv's constructor that make `self.conv` from its arguments
    norm        the batch norm of {} channels
    max_pool    the text of the class MaxPool
    avg_pool    the text of the class AvgPool, and of functions that it calls
    helpers     further classes and functions
    concat      the expression that joins the list {} along the channels
    pool        the expression of the mean of x over height and width
    flatten     the expression of x as [N, features]
    linear      the layer from {} to {} features
    dropout     the layer that drops the fraction {}
    add         the statement that makes the layer {} an attribute, called by the value of `name`
    ready       the last statements of a network's constructor
    training    the expression that tells whether a network is in training mode
    enter       the first statements of a network, which bring the images x into the framework's layout
    leave       the expression of the feature map {} in the layout of the images
    load        statements of `load` after `net` is made
    """

    suffix: str
    imports: Callable[[Uses], list[str]]
    module: str
    forward: str
    names: dict[str, str]
    identity: str
    convolution: Callable[[Uses], list[str]]
    norm: str
    max_pool: Callable[[Uses], str]
    avg_pool: Callable[[Uses], str]
    helpers: Callable[[Uses], list[str]]
    concat: str
    pool: str
    flatten: str
    linear: str
    dropout: str
    add: str
    ready: tuple[str, ...] = field(default=(), kw_only=True)
    training: str = field(default="self.training", kw_only=True)
    enter: tuple[str, ...] = field(default=(), kw_only=True)
    leave: str = field(default="{}", kw_only=True)
    load: tuple[str, ...]


@dataclass(frozen=True)
class Script:
    """How a framework runs one operation, for `zoo parity --repro`. The arrays are t["x"], t["weight"], ...

    imports  the lines that import the framework
    tensor   the function that makes a tensor from an array
    conv     statements that set y, an array, from t and the settings {left}, {right}, {top}, {bottom}, {stride},
             {dilation} and {groups}
    linear   the same without settings
    norm     the same with {eps}
    """

    imports: str
    tensor: str
    conv: str
    linear: str
    norm: str


def reach(uses: Uses) -> list[str]:
    """Statements of Conv's constructor that make `kernel` a pair, and `height` and `width` the sides of its window."""
    pair = "kernel = kernel if isinstance(kernel, tuple) else (kernel, kernel)"
    if "dilation" in uses.conv:
        return [pair, "height, width = ((k - 1) * dilation + 1 for k in kernel)"]
    return [pair, "height, width = kernel"]


def script_of(framework: str) -> Script:
    """The script of a framework, a key of FRAMEWORKS. Imports no framework."""
    script: Script = importlib.import_module(f"backends.{framework}.source").SCRIPT
    return script


def dialect_of(framework: str) -> Dialect:
    """The dialect of a framework, a key of FRAMEWORKS. Imports no framework."""
    dialect: Dialect = importlib.import_module(f"backends.{framework}.source").DIALECT
    return dialect
