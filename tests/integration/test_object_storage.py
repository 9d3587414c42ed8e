"""A server whose storage is a bucket: puts, receipts, manifests and checks, and how it starts on a wrong one."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

import timestore
from storage.marker import MARKER_PATH
from tests.fixtures.data import cpu_table
from tests.fixtures.object_stores import ACCESS_KEY, SECRET_KEY, ObjectServer, TestBucket, s3_client
from tests.fixtures.server import ServerProcess, StartService, same_user_environment

MakeBucket = Callable[[ObjectServer], TestBucket]


def _options(options: Mapping[str, str]) -> list[str]:
    return [part for name, value in options.items() for part in ("--storage-option", f"{name}={value}")]


def _keys(bucket: TestBucket) -> set[str]:
    answer = s3_client(bucket.server.port).list_objects_v2(Bucket=bucket.name)
    return {each["Key"] for each in answer.get("Contents", [])}


def test_a_put_into_a_bucket(
    start_service: StartService, seaweed: ObjectServer, make_bucket: MakeBucket, connections: object
) -> None:
    """A receipt means that the files are in the bucket, whole, where the manifest says; a repetition adds none."""
    bucket = make_bucket(seaweed)
    service = start_service(storage_url=bucket.url, storage_options=dict(seaweed.options))
    sent = cpu_table(2_000, step_s=60.0)
    with timestore.connect(service.url) as client:
        receipt = client.append("cpu", sent, key={"region": "eu"}, idempotency_key="one")
        again = client.append("cpu", sent, key={"region": "eu"}, idempotency_key="one")
        files = list(client.manifest("cpu"))
    assert again.replayed
    assert again.append_id == receipt.append_id
    assert sum(file["rows"] for file in files) == sent.num_rows
    stored = {key.removeprefix("some/prefix/") for key in _keys(bucket)}
    uris = {file["uri"].removeprefix(f"{bucket.url}/") for file in files}
    assert uris == {path for path in stored if path.endswith(".duckdb")}
    assert MARKER_PATH in stored


def test_serve_and_fsck(
    server_process: Callable[..., ServerProcess],
    seaweed: ObjectServer,
    make_bucket: MakeBucket,
    tmp_path: Path,
) -> None:
    """``timestore serve --storage-url s3://...`` works as people start it, and ``fsck`` finds a lost object."""
    bucket = make_bucket(seaweed)
    storage = ["--storage-url", bucket.url, *_options(seaweed.options)]
    server = server_process(*storage, "--log-level", "debug")
    with timestore.connect(server.url) as client:
        client.append("cpu", cpu_table(100), idempotency_key="one")
        [file] = client.manifest("cpu")
    facts = (server.data_dir / "server.json").read_text()
    fsck = [sys.executable, "-m", "timestore_app", "fsck", "--json", "--data-dir", str(server.data_dir), *storage]
    assert _run(fsck).returncode == 0

    s3_client(seaweed.port).delete_object(Bucket=bucket.name, Key=file["uri"].removeprefix(f"s3://{bucket.name}/"))
    done = _run(fsck)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "missing" in done.stdout
    assert server.terminate() == 0
    for told in (facts, server.log.read_text(), done.stdout):
        assert SECRET_KEY not in told
        assert ACCESS_KEY not in told


@pytest.mark.parametrize(
    ("bucket_name", "environment", "said"),
    [
        ("no-such-bucket-7c1", {}, "'no-such-bucket-7c1'"),
        (None, {"AWS_SECRET_ACCESS_KEY": "do-not-print-me"}, "credentials"),
        (None, {"TIMESTORE_STORAGE_OPTIONS": json.dumps({"endpoint": "do-not-print-me"})}, "option 'endpoint'"),
        (None, {"TIMESTORE_STORAGE_OPTIONS": "do-not-print-me"}, "storage_options"),
    ],
    ids=["bucket", "credentials", "option", "text"],
)
def test_a_server_that_cannot_use_its_storage(
    seaweed: ObjectServer,
    make_bucket: MakeBucket,
    postgres_dsn: str,
    catalog_schema: str,
    tmp_path: Path,
    bucket_name: str | None,
    environment: Mapping[str, str],
    said: str,
) -> None:
    """It does not start, and one line says what to change; no secret is in it."""
    bucket = make_bucket(seaweed)
    url = f"s3://{bucket_name or bucket.name}/some/prefix"
    options = json.dumps(dict(seaweed.options))
    command = [sys.executable, "-m", "timestore_app", "serve", "--data-dir", str(tmp_path / "d"), "--port", "0"]
    command += ["--catalog-dsn", postgres_dsn, "--catalog-schema", catalog_schema, "--storage-url", url]
    done = _run(command, {"TIMESTORE_STORAGE_OPTIONS": options, **environment})
    assert done.returncode in (1, 2), done.stderr
    assert "Traceback" not in done.stderr
    assert said in done.stderr.strip().splitlines()[-1]
    assert "do-not-print-me" not in done.stderr + done.stdout


def test_doctor_looks_at_the_bucket(
    seaweed: ObjectServer, make_bucket: MakeBucket, postgres_dsn: str, tmp_path: Path
) -> None:
    """``timestore doctor`` says whether the storage answers, and what to do if not."""
    bucket = make_bucket(seaweed)
    (tmp_path / "d").mkdir()
    config = tmp_path / "timestore.toml"
    command = [sys.executable, "-m", "timestore_app", "doctor", "--data-dir", str(tmp_path / "d"), "--json"]
    found = []
    for url in (bucket.url, "s3://no-such-bucket-7c1"):
        table = "\n".join(f'{name} = "{value}"' for name, value in seaweed.options.items())
        config.write_text(f'catalog_dsn = "{postgres_dsn}"\nstorage_url = "{url}"\n[storage_options]\n{table}\n')
        checks = json.loads(_run([*command, "--config", str(config)]).stdout)["checks"]
        found += [check for check in checks if check["check"] == "storage"]
    assert [check["level"] for check in found] == ["ok", "problem"]
    assert "'no-such-bucket-7c1'" in found[1]["found"]


def _run(command: list[str], environment: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        env=same_user_environment() | dict(environment or {}),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
