"""What trials begin with, what they let happen, and when that is done."""

from __future__ import annotations

import signal
import subprocess

from tests.chaos.client import ARCHIVE
from tests.chaos.site import Site
from tests.fixtures.server import wait_until


def nothing(_: Site) -> None:
    """Begin on an empty directory."""


def running(site: Site) -> None:
    """Start a server that has an append."""
    site.server.start()
    site.append_before()


def running_new(site: Site) -> None:
    """Start an empty server."""
    site.server.start()


def killed_when_staged(site: Site) -> None:
    """Leave a file in staging."""
    killed_in_a_put(site, "writers.data_file:_fsync_and_hash os.fsync")


def killed_when_published(site: Site) -> None:
    """Leave a published file of no append."""
    killed_in_a_put(site, "storage.local:LocalStore._link os.link")
    site.server.start()


def killed_in_a_put(site: Site, step: str) -> None:
    """Leave what a server leaves that was killed after a step of a put."""
    running(site)
    site.trap.lay(step, "after", "wait")
    client = site.watched(site.send("good"))
    wait_until(site.trap.has_sprung, timeout_s=60)
    site.server.kill()
    client.communicate()


def with_another(site: Site) -> None:
    """Start a server that has two datasets."""
    running(site)
    site.append_other()


def with_expired(site: Site) -> None:
    """Start a server of which a dataset has expired rows."""
    running(site)
    site.append_other(expire=True)


def with_dropped(site: Site) -> None:
    """Start a server of which a dataset was dropped."""
    running(site)
    site.append_other(drop=True)


def keep_house(site: Site) -> subprocess.Popen[bytes]:
    """Let housekeeping begin."""
    site.trap.hasten()
    assert site.server.process is not None
    return site.server.process


def is_purged(site: Site) -> bool:
    """Whether nothing of the other dataset is left."""
    return not any(path.startswith("other/") for path in site.place.files()) and not site.paths_in("condemned_files")


def is_swept(site: Site) -> bool:
    """Whether nothing is left of what was never committed."""
    return not site.paths_in("intents") and not site.paths_in("condemned_files", "deleted_at IS NULL")


def launch(site: Site) -> subprocess.Popen[bytes]:
    """Start the server, and do not wait."""
    site.server.launch()
    assert site.server.process is not None
    return site.server.process


def stopped(site: Site) -> None:
    """Leave a server that was stopped in good order."""
    running(site)
    assert site.server.terminate() == 0


def adopt(site: Site) -> subprocess.Popen[bytes]:
    """Take in what the catalog does not know."""
    return site.command("rebuild", "--adopt")


def adopt_again(site: Site) -> None:
    """Repeat it until it works: a command that was killed counts as running until its lease is over."""
    wait_until(lambda: site.watched(adopt(site)).wait(timeout=60) == 0, timeout_s=60)


def make_a_token(site: Site) -> subprocess.Popen[bytes]:
    """Make a token."""
    return site.command("token", "create", "--grant", "read:*", storage=False)


def revoke(site: Site) -> subprocess.Popen[bytes]:
    """Revoke a token, though there is none of that id: the catalog is asked all the same."""
    return site.command("token", "revoke", "0" * 16, storage=False)


def terminate(site: Site) -> subprocess.Popen[bytes]:
    """Ask the server to stop."""
    assert site.server.process is not None
    site.server.process.send_signal(signal.SIGTERM)
    return site.server.process


def with_moved_storage(site: Site) -> None:
    """Leave a storage target elsewhere than the catalog says."""
    running(site)
    site.add_storage()
    assert site.server.terminate() == 0
    site.archive.rename(site.archive.with_name("moved"))


def change_storage(site: Site) -> subprocess.Popen[bytes]:
    """Say where the storage target is now."""
    return site.command("catalog", "change-storage", ARCHIVE, str(site.archive.with_name("moved")), storage=False)


def change_storage_again(site: Site) -> None:
    """Repeat it until it works."""
    wait_until(lambda: site.watched(change_storage(site)).wait(timeout=60) == 0, timeout_s=60)
