"""What a server does beside its calls: it renews its lease, keeps house, and notes horizons."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

import structlog

from catalog.ledger import Ledger
from storage.targets import Targets
from timestore import __version__
from timestore.errors import TimestoreError
from timestore_app.closing import OnClose, within
from timestore_app.settings import Settings
from writers.fence import Fence
from writers.horizon_notes import HorizonNotes
from writers.housekeeping import Housekeeping

HOUSEKEEPING_INTERVAL_S = 60.0
HORIZON_INTERVAL_S = 2.0
STOP_TIMEOUT_S = 5.0
LEASE_RETRY_S = 1.0  # sweepers wait for a lease after Postgres has come back, but no longer

log = structlog.get_logger()


def start_lease(ledger: Ledger, settings: Settings, on_close: OnClose) -> None:
    """Take a lease and renew it in time."""
    ledger.start_lease(address=settings.host, software_version=__version__, lease_s=settings.lease_s)
    on_close("lease", ledger.end_lease)
    ended = threading.Event()
    threading.Thread(target=_renew, args=(ledger, settings.lease_s, ended), name="lease", daemon=True).start()
    on_close("lease renewal", ended.set)


def start_housekeeping(housekeeping: Housekeeping, targets: Targets, fence: Fence, on_close: OnClose) -> HorizonNotes:
    """Do what is due at an interval. Servers need not take turns: each step is one guarded transaction."""

    def note(storages: Iterable[str] | None) -> None:
        _try(lambda: housekeeping.note_horizon(storages))

    def note_at_last() -> None:
        _try(lambda: note(filter(fence.is_open, targets.names())))

    horizon = HorizonNotes(note=note, interval_s=HORIZON_INTERVAL_S)
    # After the last put has ended, and before the connections close; nobody waits long for a target that is away, as
    # the next start notes it too.
    on_close("horizon", lambda: within(STOP_TIMEOUT_S, note_at_last, name="horizon"))
    horizon.open()  # notes what was committed last before a crash
    on_close("horizon's notes", horizon.close)
    ended = threading.Event()
    thread = threading.Thread(target=_keep_house, args=(housekeeping, ended), name="housekeeping", daemon=True)
    thread.start()
    on_close("housekeeping", lambda: thread.join(STOP_TIMEOUT_S))
    on_close("housekeeping's end", ended.set)
    return horizon


def _renew(ledger: Ledger, lease_s: float, ended: threading.Event) -> None:
    pause_s = lease_s / 3
    while not ended.wait(pause_s):
        try:
            ledger.renew_lease(lease_s=lease_s)
            pause_s = lease_s / 3
        except TimestoreError as exc:
            pause_s = LEASE_RETRY_S
            log.warning("lease.not_renewed", error=str(exc))


def _keep_house(housekeeping: Housekeeping, ended: threading.Event) -> None:
    while not ended.wait(HOUSEKEEPING_INTERVAL_S):
        _try(housekeeping.run)


def _try(work: Callable[[], object]) -> None:
    try:
        work()
    except TimestoreError as exc:
        log.warning("housekeeping.put_off", error=str(exc))
    except Exception:  # the top of a thread, which must be there for the next time
        log.exception("housekeeping.failed")
