"""``python -m bench``, which is ``make bench``."""

from __future__ import annotations

from bench.cli import main

if __name__ == "__main__":  # not in the bare Flight server's process, which imports this again
    main(prog_name="python -m bench")
