"""The flags of train.py and validate.py: their table (`Arguments`), the command line, YAML recipes, and warnings."""

from zoo.training.flags.command_line import parse
from zoo.training.flags.recipes import changes, save_yaml, to_yaml
from zoo.training.flags.remarks import remarks
from zoo.training.flags.table import FLAGS, Arguments

__all__ = ["FLAGS", "Arguments", "changes", "parse", "remarks", "save_yaml", "to_yaml"]
