"""pytorch-fid and torch-fidelity (both Apache-2.0): the network of FID, whose tensors they name as torchvision does."""

from weights.names import Source, Table
from weights.sources.torchvision import INCEPTION_V3

TABLE = Table(tuple(row for row in INCEPTION_V3 if not row[1].startswith("aux")))

PYTORCH_FID = Source("torch", {"inception_v3.fid": TABLE})

TORCH_FIDELITY = Source("torch", {"inception_v3.fid": TABLE})
