"""Train a network of the zoo, in any framework: mindcv's flags plus --backend. `python train.py --help` lists them.

    python train.py -c configs/digits.yaml --backend mindspore

The training loop is zoo/scripts/train.py, which `zoo train` runs too.
"""

import sys

from zoo.commands.entry_point import run
from zoo.scripts.train import main

if __name__ == "__main__":
    sys.exit(run(main))
