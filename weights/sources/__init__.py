"""The publishers whose names we know, one table a file."""

from weights.names import Source
from weights.sources.mindcv import MINDCV
from weights.sources.timm import TIMM
from weights.sources.torchvision import TORCHVISION

SOURCES: dict[str, Source] = {"mindcv": MINDCV, "timm": TIMM, "torchvision": TORCHVISION}
