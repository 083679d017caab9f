"""The publishers whose names we know, one file each, and the names that networks of `zoo.build` have."""

from weights.names import Source
from weights.sources.cadene import CADENE
from weights.sources.keras import KERAS, KERAS_POSITIONS
from weights.sources.mindcv import MINDCV
from weights.sources.mmpretrain import MMPRETRAIN
from weights.sources.native import NATIVE
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

ALL: dict[str, Source] = SOURCES | {"keras<3.6": KERAS_POSITIONS} | NATIVE
"""Whatever a file's names may be: a publisher's, today's or earlier ones, or those of `zoo.build` ("zoo": canonical;
"torch" and so on: as that framework saves it).
"""
