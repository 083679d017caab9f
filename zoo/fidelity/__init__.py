"""How near two sets of images are: Frechet inception distance, kernel inception distance, and the Inception score."""

from zoo.fidelity.compare import PIPELINES, fid

__all__ = ["PIPELINES", "fid"]
