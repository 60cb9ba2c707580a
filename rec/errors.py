"""The one error that users see."""


class RecError(Exception):
    """Bad input, said in one line: which file, row, key or value, and what is allowed.

    Stages and the command line print the text and exit with status 1. Any other exception is a
    bug and keeps its traceback.
    """
