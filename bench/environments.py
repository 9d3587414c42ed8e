"""An environment for each peer: what one of them needs must not decide what another gets."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

from bench.measuring import AbsentError

ROOT = Path(__file__).parents[1]
INSTALL_TIMEOUT_S = 900.0


def environment_of(requirements: str, *, parent: Path) -> Path:
    """Return the Python of an environment with ``requirements/bench-NAME.txt``; made once, anew when the file changes.

    Raises ``AbsentError`` with the installer's last line if it cannot be made here.
    """
    locked = ROOT / "requirements" / f"bench-{requirements}.txt"
    folder = parent / requirements
    python, stamp = folder / "bin" / "python", folder / "installed"
    wanted = f"{folder} {hashlib.sha256(locked.read_bytes()).hexdigest()}"  # an environment survives no move
    if python.exists() and stamp.exists() and stamp.read_text(encoding="utf-8") == wanted:
        return python
    _install((sys.executable, "-m", "venv", "--clear", str(folder)))
    pip = (str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input")
    _install((*pip, "--require-hashes", "--only-binary", ":all:", "-r", str(locked)))
    stamp.write_text(wanted, encoding="utf-8")
    return python


def _install(command: tuple[str, ...]) -> None:
    try:
        subprocess.run(command, capture_output=True, text=True, check=True, timeout=INSTALL_TIMEOUT_S)
    except subprocess.CalledProcessError as exc:
        raise AbsentError(f"it could not be installed: {last_line(exc.stderr or exc.stdout)}") from exc
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise AbsentError(f"it could not be installed: {exc}") from exc


def last_line(text: str) -> str:
    """Return the last line that says something."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"
