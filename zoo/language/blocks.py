"""Names of blocks: which function, and so which figure of a paper, a node comes from.

A node is a value without a name. `zoo source` writes a class for each block, and takes the class's name and docstring
from the function that made the node.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import NamedTuple, ParamSpec, TypeVar

from zoo.language.nodes import Node

P = ParamSpec("P")
Made = TypeVar("Made", bound=Node)


class Block(NamedTuple):
    """A block's name as a class ("InceptionA"), and the first line of its function's docstring."""

    name: str
    about: str


BLOCKS: dict[Node, Block] = {}
"""Blocks of the published networks, by node."""


def block(function: Callable[P, Made]) -> Callable[P, Made]:
    """Decorator of a function that makes a block: its nodes are found in `BLOCKS`."""
    named = Block(camel(function.__name__), (function.__doc__ or "").partition("\n")[0])

    @wraps(function)
    def make(*args: P.args, **kwargs: P.kwargs) -> Made:
        node = function(*args, **kwargs)
        BLOCKS.setdefault(node, named)
        return node

    return make


def camel(name: str) -> str:
    """A snake_case name as the name of a class: "inception_a" becomes "InceptionA"."""
    return "".join(word[:1].upper() + word[1:] for word in name.replace(".", "_").split("_"))
