"""Comparing two sets of images: Frechet inception distance and kernel inception distance; and the Inception score."""

from zoo.fidelity.compare import PIPELINES, fid

__all__ = ["PIPELINES", "fid"]
