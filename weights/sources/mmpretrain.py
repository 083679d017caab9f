"""mmpretrain (Apache-2.0): torchvision's Inception-v3, classifier included, as an ImageClassifier's backbone."""

from weights.names import Source, Table
from weights.sources.torchvision import INCEPTION_V3

MMPRETRAIN = Source(
    "torch", {"inception_v3": Table(tuple((f"backbone.{theirs}", ours) for theirs, ours in INCEPTION_V3))}
)
