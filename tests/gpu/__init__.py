"""What differs on a GPU: `make test-gpu`, skipped where there is none."""
