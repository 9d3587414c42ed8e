"""``python -m timestore_app`` is ``timestore``."""

from timestore_app.cli import main

main()
