"""`python -m madyn`: the command line, where no `madyn` is on the path."""

from __future__ import annotations

from madyn.cli import main

if __name__ == "__main__":
    main()
