"""Measure how well networks of the zoo classify, in any framework: mindcv's flags plus --backend.

    python validate.py --model inception_v4 --dataset imagenet --data_dir DIR --ckpt_path FILE_OR_FOLDER ...

`python validate.py --help` lists all flags. The code is zoo/scripts/validate.py, which `zoo validate` runs too.
"""

import sys

from zoo.commands.entry_point import run
from zoo.scripts.validate import main

if __name__ == "__main__":
    sys.exit(run(main))
