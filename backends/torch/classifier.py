"""The head of PyTorch networks."""

from __future__ import annotations

from torch import Tensor, nn

from zoo.language.nodes import Head


class Classifier(nn.Module):
    """Global average pooling or flattening, a hidden layer if the node has one, dropout, and a linear layer."""

    def __init__(self, node: Head, features: int, classes: int) -> None:
        super().__init__()
        self.pool = node.pool
        self.hidden = nn.Linear(features, node.hidden) if node.hidden else nn.Identity()
        self.act = nn.ReLU() if node.hidden and node.act else nn.Identity()
        self.dropout = nn.Dropout(node.dropout)
        self.fc: nn.Module = nn.Linear(node.hidden or features, classes)

    def features(self, x: Tensor) -> Tensor:
        """The input of the last linear layer, [N, features]."""
        x = x.mean((2, 3)) if self.pool else x.flatten(1)
        y: Tensor = self.dropout(self.act(self.hidden(x)))
        return y

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.fc(self.features(x))
        return y
