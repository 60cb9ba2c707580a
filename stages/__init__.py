"""The stages of dvc.yaml, one thin script each: `python -m stages.NAME`.

Libraries read these settings when they are imported, which is why they stand here: no bars in
logs, no model hub, no warnings about the parallelism of tokenizers.
"""

import os
import sys
import warnings

if not sys.stderr.isatty():
    os.environ.setdefault("TQDM_DISABLE", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
