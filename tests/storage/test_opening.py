"""From URLs and options to stores; nobody is asked anything yet."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping

import pytest

from storage.objects import ObjectStore
from storage.opening import open_store
from tests.fixtures.object_stores import forget_credentials
from timestore.errors import InvalidInputError

SECRET = "do-not-print-me"


@pytest.fixture(autouse=True)
def _account(monkeypatch: pytest.MonkeyPatch) -> None:
    forget_credentials(monkeypatch)
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "account")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "a2V5")


@pytest.mark.parametrize(
    "url",
    [
        "s3://bucket",
        "s3://bucket/some/prefix",
        "abfs://container/prefix",
        "abfss://container@account.dfs.core.windows.net/prefix",
        "az://container/prefix",
        "gs://bucket/prefix",
        "gcs://bucket/prefix",
    ],
)
def test_urls_of_object_stores(url: str) -> None:
    """Each scheme opens its store, which spells its objects as its own tools do."""
    for spelling in (url, f"{url}/"):
        store = open_store(spelling)
        assert isinstance(store, ObjectStore)
        assert store.url("cpu/k=%2E/a") == f"{url}/cpu/k=%2E/a"
        assert store.local_path("cpu/a") is None


@pytest.mark.parametrize(
    "url",
    [
        "memory://x",
        "nonsense://x",
        f"s3://user:{SECRET}@bucket/prefix",
        f"s3://{SECRET}@bucket/prefix",
        f"abfs://container:{SECRET}@account.dfs.core.windows.net/x",
        f"s3://bucket/prefix?token={SECRET}",
        f"gs://bucket/prefix#{SECRET}",
        "s3://",
        "s3:///prefix",
        "s3://bucket//prefix",
        "s3://bucket/../prefix",
        "s3://bucket/a\nb",
        f"s3://bucket/{'x' * 200}",
    ],
)
def test_urls_that_are_refused(url: str) -> None:
    """What cannot be a storage URL is ``unsupported``, and what may be a password is not repeated."""
    with pytest.raises(InvalidInputError) as caught:
        open_store(url)
    assert caught.value.kind == "unsupported"
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "options", "said"),
    [
        ("s3://b", {"endpoint": "http://x"}, "no storage option 'endpoint'; it has"),
        ("s3://b", {"secret": SECRET}, "secret is a secret; give credentials by AWS_ACCESS_KEY_ID"),
        ("s3://b", {"endpoint_url": f"http://user:{SECRET}@x"}, "without user or password"),
        ("s3://b", {"addressing_style": SECRET}, "one of auto, path, virtual"),
        ("abfs://c", {"account_key": SECRET}, "give credentials by AZURE_STORAGE_CONNECTION_STRING"),
        ("abfs://c", {"access_tier": SECRET}, "one of Hot, Cool, Cold"),
        ("gs://b", {"token": SECRET}, "give credentials by GOOGLE_APPLICATION_CREDENTIALS"),
        ("gs://b", {"anonymous": SECRET}, "true or false"),
        ("/tmp/data", {"endpoint_url": "http://x"}, "a directory has no storage options"),
    ],
)
def test_options_that_are_refused(url: str, options: Mapping[str, str], said: str) -> None:
    """An option that is unknown, wrong or a secret is refused by its name, never with its value."""
    with pytest.raises(InvalidInputError, match=said) as caught:
        open_store(url, options)
    assert caught.value.kind == "unsupported"
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "driver", "extra"),
    [("s3://b", "s3fs", "s3"), ("abfs://c", "adlfs", "azure"), ("gs://b", "gcsfs", "gcs")],
)
def test_a_driver_that_is_not_installed(url: str, driver: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing driver is named with the extra that brings it."""
    for name in ("storage.s3", "storage.s3_troubles", "storage.azure", "storage.gcs"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    for name in [each for each in sys.modules if each.split(".")[0] == driver]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, driver, None)
    with pytest.raises(InvalidInputError, match=rf"timestore\[server,{extra}\]"):
        open_store(url)


def test_only_the_driver_in_use_is_loaded() -> None:
    """A server on a directory loads no driver, one on S3 none of the others: they take long and much memory."""
    program = """
import sys
from storage.opening import open_store
open_store("/tmp")
assert not {"s3fs", "botocore", "adlfs", "azure.storage", "gcsfs"} & set(sys.modules)
open_store("s3://bucket")
assert not {"adlfs", "azure.storage", "gcsfs"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
