"""The publishers whose names we know, one table a file."""

from weights.names import Source
from weights.sources.cadene import CADENE
from weights.sources.keras import KERAS
from weights.sources.mindcv import MINDCV
from weights.sources.mmpretrain import MMPRETRAIN
from weights.sources.paddleclas import PADDLECLAS
from weights.sources.timm import TIMM
from weights.sources.torchvision import TORCHVISION
from weights.sources.zhulf import ZHULF

SOURCES: dict[str, Source] = {
    "cadene": CADENE,
    "keras": KERAS,
    "mindcv": MINDCV,
    "mmpretrain": MMPRETRAIN,
    "paddleclas": PADDLECLAS,
    "timm": TIMM,
    "torchvision": TORCHVISION,
    "zhulf": ZHULF,
}
