"""The models, by name: `name` is the most used network of that name, `name.publisher` another one's."""

from zoo.model import Model
from zoo.models.googlenet import GOOGLENET, GOOGLENET_MINDCV
from zoo.models.inception_v3 import INCEPTION_V3, INCEPTION_V3_MINDCV
from zoo.models.inception_v4 import INCEPTION_V4

MODELS: dict[str, Model] = {
    model.name: model
    for model in (
        GOOGLENET,
        GOOGLENET_MINDCV,
        INCEPTION_V3,
        INCEPTION_V3_MINDCV,
        INCEPTION_V4,
    )
}
