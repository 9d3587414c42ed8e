"""The log line of a put that ended well, the same for all doors."""

from __future__ import annotations

import structlog

from access.principal import Principal
from timestore.receipt import Receipt

log = structlog.get_logger()


def log_commit(receipt: Receipt, principal: Principal, *, door: str) -> None:
    """Note a receipt, whom it is for, and the door that the rows came through."""
    log.info(
        "put.committed",
        door=door,
        dataset=receipt.dataset,
        principal=principal.name,
        version=receipt.version,
        append_id=receipt.append_id,
        rows=receipt.rows,
        bytes=receipt.bytes,
        files=receipt.files_total,
        replayed=receipt.replayed,
        **{f"{stage}_ms": spent for stage, spent in receipt.timings_ms.items()},
    )
