"""`python -m rec.cli`, the same as `rec`."""

from rec.cli import main

if __name__ == "__main__":
    main(prog_name="rec")
