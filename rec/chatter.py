"""Keeping libraries quiet that talk about themselves."""

import os
import warnings


def silence_libraries() -> None:
    """No model hub, no warnings about tokenizers or deprecations.

    Libraries read these settings when they are imported, so call it before that. What is set in the
    environment stays as it is.
    """
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
