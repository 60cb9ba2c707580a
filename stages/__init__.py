"""The stages of dvc.yaml, one thin script each: `python -m stages.NAME`."""

import os
import sys

from rec.chatter import silence_libraries

if not sys.stderr.isatty():
    os.environ.setdefault("TQDM_DISABLE", "1")  # no bars in logs
silence_libraries()
