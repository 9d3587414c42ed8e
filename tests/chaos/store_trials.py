"""Trials of object stores: faults at each request that changes one, and what the network to it can do."""

from __future__ import annotations

import subprocess
import time

from tests.chaos.scenes import is_purged, is_swept, keep_house, killed_in_a_put, launch, nothing, running, with_dropped
from tests.chaos.site import Laboratory, Site
from tests.chaos.trials import FAULTS, SILENCE_S, Fault, Scenario, Trial

# What the beginning of a request has that no other one has.
SIGNS = {
    "s3 put_object": b"PUT /",
    "s3 create_multipart_upload": b"uploads HTTP",
    "s3 upload_part": b"partNumber=",
    "s3 complete_multipart_upload": b"POST /",
    "s3 abort_multipart_upload": b"DELETE /",
    "s3 delete_object": b"DELETE /",
    "azure upload_blob": b"PUT /",
    "azure stage_block": b"comp=block&",
    "azure commit_block_list": b"comp=blocklist",
    "azure delete_blob": b"DELETE /",
}


def _killed_with_parts_sent(site: Site) -> None:
    killed_in_a_put(site, "s3 upload_part" if site.place.url.startswith("s3:") else "azure stage_block")
    site.server.start()


def _killed_when_uploaded(site: Site) -> None:
    is_s3 = site.place.url.startswith("s3:")
    killed_in_a_put(site, "s3 complete_multipart_upload" if is_s3 else "azure commit_block_list")
    site.server.start()


FIRST_START = Scenario(name="first start", prepare=nothing, begin=launch, had_before=False, process="starts")
PUT = Scenario(name="put", prepare=running, begin=lambda site: site.send("good"))
REFUSED_PUT = Scenario(name="refused put", prepare=running, begin=lambda site: site.send("unordered"))
PURGE = Scenario(name="purge dropped", prepare=with_dropped, begin=keep_house, process="works", is_done=is_purged)
SWEEP = Scenario(name="sweep", prepare=_killed_when_uploaded, begin=keep_house, process="works", is_done=is_swept)
SWEEP_HALF = Scenario(
    name="sweep half an upload", prepare=_killed_with_parts_sent, begin=keep_house, process="works", is_done=is_swept
)
STORE_SCENARIOS = (FIRST_START, PUT, REFUSED_PUT, PURGE, SWEEP, SWEEP_HALF)

# Where each step is sure to be reached, and soon.
REACHED_BY = {
    "s3 put_object": FIRST_START,
    "s3 create_multipart_upload": PUT,
    "s3 upload_part": PUT,
    "s3 complete_multipart_upload": PUT,
    "s3 delete_object": PURGE,
    "s3 abort_multipart_upload": SWEEP_HALF,
    "azure upload_blob": FIRST_START,
    "azure stage_block": PUT,
    "azure commit_block_list": PUT,
    "azure delete_blob": PURGE,
    "storage.objects:ObjectStore.put Path.unlink": PUT,
}


def _cut(laboratory: Laboratory, site: Site, trial: Trial, process: subprocess.Popen[bytes]) -> None:
    assert laboratory.store_proxy is not None
    laboratory.store_proxy.cut_all()


def _reset(laboratory: Laboratory, site: Site, trial: Trial, process: subprocess.Popen[bytes]) -> None:
    assert laboratory.store_proxy is not None
    laboratory.store_proxy.cut_all(reset=True)


def _cut_the_request(laboratory: Laboratory, site: Site, trial: Trial, process: subprocess.Popen[bytes]) -> None:
    """Let the request come through, at least in part, and its answer reach nobody."""
    assert laboratory.store_proxy is not None
    laboratory.store_proxy.cut_once(SIGNS[trial.step], answer=True)


def _silence(laboratory: Laboratory, site: Site, trial: Trial, process: subprocess.Popen[bytes]) -> None:
    assert laboratory.store_proxy is not None
    laboratory.store_proxy.fall_silent()
    site.trap.take_away()
    time.sleep(SILENCE_S)


STORE_FAULTS = (
    *FAULTS,
    Fault(name="store cut", strike=_cut, needs_request=True),
    Fault(name="store reset", strike=_reset, needs_request=True),
    Fault(name="request cut", strike=_cut_the_request, needs_request=True, moments=("before",)),
    Fault(name="store silent", strike=_silence, needs_request=True, slow=True),
)
