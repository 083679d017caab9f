"""Images for any framework: datasets, augmentation, and batches that depend only on a seed and a position."""

from zoo.data.datasets import Dataset, ImageFolder, open_dataset
from zoo.data.loader import Batch, Loader
from zoo.data.mixing import Mixing
from zoo.data.transforms import Augment, Evaluate

__all__ = ["Augment", "Batch", "Dataset", "Evaluate", "ImageFolder", "Loader", "Mixing", "open_dataset"]
