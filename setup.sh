#!/usr/bin/env bash
# Make .venv with the pinned versions of requirements.lock. Called by the Makefile.
set -euo pipefail
cd "$(dirname "$0")"
python=${1:-python3}

need() { # need COMMAND WHAT HOW
  command -v "$1" >/dev/null 2>&1 || { echo "setup: $2 is missing: $3" >&2; exit 1; }
}
need "$python" "Python 3.11 or newer" "install it (Debian: apt install python3 python3-venv) or name it with make PYTHON=..."
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
  || { echo "setup: $("$python" --version) is too old: install Python 3.11 or newer, or name one with make PYTHON=..." >&2; exit 1; }
"$python" -c 'import venv, ensurepip' 2>/dev/null \
  || { echo "setup: Python's venv module is missing: install it (Debian: apt install python3-venv)" >&2; exit 1; }
need git "git" "install it (Debian: apt install git)"
need "${CC:-cc}" "a C compiler" "install it (Debian: apt install build-essential)"
need "${CXX:-c++}" "a C++ compiler" "install it (Debian: apt install build-essential)"
need cmake "cmake" "install it (Debian: apt install cmake)"

echo "setup: making .venv (about 6 minutes on two cores, llama.cpp is compiled)" >&2
rm -f .venv/.ready
"$python" -m venv .venv
.venv/bin/python -m pip install --quiet --disable-pip-version-check --requirement requirements.lock
.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --editable . # rec
[ -e .git ] || .venv/bin/dvc config --local core.no_scm true # an export without git
touch .venv/.ready
