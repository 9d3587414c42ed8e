"""The other commands, and what all have in common."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import duckdb
import pyarrow.parquet as parquet
import pytest

import timestore as ts_client
from tests.fixtures.command_line import Run, run_process
from tests.fixtures.data import cpu_table
from tests.fixtures.server import ServerProcess, same_user_environment, wait_until
from timestore_app.cli import load
from timestore_app.cli.group import COMMANDS
from timestore_app.service import Service

ROWS = cpu_table(20_000)
# Commands that work on catalog and storage themselves.
DIRECT = {"serve", "doctor", "catalog", "fsck", "rebuild", "token"}
HEAVY = ["catalog", "duckdb", "psycopg", "flight_server", "writers", "pandas", "fsspec"]


@pytest.fixture(name="filled")
def _filled(timestore: Run, client: ts_client.Client) -> Run:
    client.append("cpu", ROWS, key={"region": "eu"}, idempotency_key="a")
    client.append("cpu", ROWS.slice(0, 10), key={"region": "it's"}, idempotency_key="b")
    return timestore


def test_datasets_and_descriptions(filled: Run, client: ts_client.Client) -> None:
    """Lists and descriptions say for people what the JSON says for programs."""
    assert [line["dataset"] for line in filled("datasets", "--json").lines] == ["cpu"]
    assert "cpu" in filled("datasets").out
    assert filled("describe", "cpu", "--json").document == client.describe("cpu")
    shown = filled("describe", "cpu").out
    assert "20,010" in shown
    assert "usage double" in shown


def test_manifest_history_and_receipt(filled: Run, client: ts_client.Client) -> None:
    """Manifest, history and receipt are those of the server; times are shown in the zone that was asked for."""
    assert filled("manifest", "cpu", "--json").lines == client.manifest("cpu")
    assert len(filled("manifest", "cpu", "--version", "1", "--key", "region=eu", "--json").lines) == 3
    assert "2026-01-01T01:00:00+01:00" in filled("manifest", "cpu", "--tz", "Europe/Paris").out
    assert [line["version"] for line in filled("history", "cpu", "--json").lines] == [2, 1]
    assert filled("receipt", "cpu", "a", "--json").document == client.receipt("cpu", "a").as_json()
    assert "20,000" in filled("receipt", "cpu", "a").out
    assert "receipt_not_found" in filled("receipt", "cpu", "zzz", code=4).err


def test_create(timestore: Run, client: ts_client.Client, tmp_path: Path) -> None:
    """A dataset is created with the columns of a file and no rows; creating it otherwise is refused."""
    parquet.write_table(ROWS, tmp_path / "a.parquet")
    create = ("create", "cpu", "--schema-of", str(tmp_path / "a.parquet"))

    assert timestore(*create, "--window", "1h", "--json").document["created"]
    assert client.schema("cpu").equals(ROWS.schema)
    assert client.describe("cpu")["rows"] == 0
    assert "dataset_exists" in timestore(*create, "--window", "2h", code=4).err


def test_files_script_runs_in_any_duckdb(filled: Run) -> None:
    """The printed script makes one table of a version's files in a DuckDB that knows nothing of Timestore."""
    script = filled("files", "cpu").out
    old = filled("files", "cpu", "--version", "1", "--key", "region=eu").out

    with duckdb.connect(":memory:") as connection:
        connection.execute(script)
        assert connection.execute("SELECT region, count(*) FROM cpu GROUP BY ALL ORDER BY ALL").fetchall() == [
            ("eu", 20_000),
            ("it's", 10),
        ]
        found = connection.sql("SELECT * EXCLUDE (region) FROM cpu WHERE region = 'eu' ORDER BY ts").to_arrow_table()
        assert found.cast(ROWS.schema).equals(ROWS)
    with duckdb.connect(":memory:") as connection:
        connection.execute(old)
        assert connection.execute("SELECT count(*) FROM cpu").fetchall() == [(20_000,)]
    assert len(filled("files", "cpu", "--json").document["files"]) == 4


def test_files_of_no_rows(timestore: Run, client: ts_client.Client) -> None:
    """A dataset without rows gives a table without rows, with its columns."""
    client.create_dataset("empty", ROWS.schema)

    with duckdb.connect(":memory:") as connection:
        connection.execute(timestore("files", "empty").out)
        assert connection.sql("FROM empty").columns == ROWS.column_names


def test_sweep(filled: Run) -> None:
    """What a sweep did is shown."""
    assert filled("sweep", "--json").document == {"condemned": 0, "deleted": 0, "left": {}}


def test_drop_asks_for_the_name(filled: Run, client: ts_client.Client) -> None:
    """Without the very name once more, nothing is dropped."""
    assert "nothing was dropped" in filled("drop", "cpu", code=2, stdin="cpu2\n").err
    assert "nothing was dropped" in filled("drop", "cpu", "--confirm", "CPU", code=2).err
    assert client.describe("cpu")["rows"] == 20_010


def test_drop(filled: Run, client: ts_client.Client) -> None:
    """With the name once more, asked for or given, the dataset is gone."""
    dropped = filled("drop", "cpu", "--json", stdin="cpu\n").out.splitlines()[-1]

    assert '"dataset": "cpu"' in dropped
    assert client.datasets() == []


def test_retention_and_abandon(filled: Run, client: ts_client.Client) -> None:
    """A retention can be set and taken back; a key is given up, or its receipt shown."""
    filled("retention", "cpu", "36500d")
    assert client.describe("cpu")["retention"] == "36500d"
    assert filled("retention", "cpu", "forever", "--json").document["retention"] is None

    assert filled("abandon", "cpu", "new", "--json").document["abandoned"]
    assert filled("abandon", "cpu", "a", "--json").document["receipt"]["idempotency_key"] == "a"
    with pytest.raises(ts_client.TimestoreError, match="abandoned"):
        client.append("cpu", ROWS, key={"region": "eu"}, idempotency_key="new")


def test_expire_through_the_client(client: ts_client.Client) -> None:
    """The client drops, expires and abandons by the same actions, and says what became of it."""
    client.append("cpu", cpu_table(10, offset=-40_000_000), create={"retention": "1d"})

    assert client.expire("cpu")["rows"] == 10
    assert client.describe("cpu")["rows"] == 0
    with pytest.raises(ts_client.TimestoreError, match="confirm"):
        client.drop_dataset("cpu", confirm="mem")
    assert client.drop_dataset("cpu", confirm="cpu")["dataset"] == "cpu"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(timestore: Run, shell: str) -> None:
    """Each shell gets a script of its own."""
    assert "_TIMESTORE_COMPLETE" in timestore("completion", shell).out


def test_completion_completes() -> None:
    """What the script asks for at a prompt is answered."""
    done = run_process(_TIMESTORE_COMPLETE="bash_complete", COMP_WORDS="timestore des", COMP_CWORD="1")

    assert "describe" in done.out


def test_help_of_every_command(timestore: Run) -> None:
    """Each command loads, has help, and the line that the list shows of it."""
    listed = timestore("--help").out
    for name, (path, summary) in COMMANDS.items():
        assert load(path).get_short_help_str(limit=100) == summary
        assert summary in listed
        assert "--help" in timestore(name, "--help").out


@pytest.mark.parametrize("name", [name for name in COMMANDS if name not in DIRECT])
def test_client_commands_stay_light(name: str) -> None:
    """A command that only speaks to a server loads no database and nothing of the server's work."""
    path = COMMANDS[name][0]
    script = (
        f"import sys; from timestore_app.cli import load; load({path!r}); "
        f"print(*sorted(set({HEAVY}) & set(sys.modules)))"
    )

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert done.stdout.split() == []


def test_without_the_extra(tmp_path: Path) -> None:
    """Where only the client was installed, ``timestore`` says what to install, without a traceback."""
    script = (
        "import sys\n"
        "class Missing:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] in {'click', 'rich', 'duckdb', 'psycopg', 'pydantic_settings'}:\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Missing())\n"
        "from timestore_app.cli import main\n"
        "main()\n"
    )

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)

    assert done.returncode == 1
    assert "pip install 'timestore[server]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_exit_codes(timestore: Run, server_process: Callable[..., ServerProcess]) -> None:
    """0 ok, 1 failed, 2 wrong usage, 3 data directory in use, 4 refused, 5 unreachable; each with one line."""
    server = server_process()

    codes = {
        0: timestore("datasets"),
        2: timestore("manifest", "cpu", "--from", "2026-01-01", code=2),
        3: run_process("serve", "--data-dir", str(server.data_dir), "--port", "0"),
        4: timestore("describe", "nothing", code=4),
        5: run_process("datasets", "--url", "grpc://127.0.0.1:1", "--deadline", "0"),
    }

    assert {code: done.code for code, done in codes.items()} == {code: code for code in codes}
    assert "offset" in codes[2].err or "2026-01-31T00:00:00Z" in codes[2].err
    assert "dataset_not_found" in codes[4].err
    timestore("describe", "nothing", "--tz", "Mars", code=2)
    timestore("nothing", code=2)
    assert "grpc://127.0.0.1:8815" in timestore("datasets", "--url", "no url", code=2).err


@pytest.mark.parametrize("while_it", ["loads", "reads"])
def test_interrupted_put_says_that_repeating_is_safe(server_url: str, while_it: str) -> None:
    """Ctrl-C ends a command with a line that says it may be run again, however far it had come."""
    command = [sys.executable, "-m", "timestore_app", "put", "-", "--format", "csv", "--dataset", "d"]
    command += ["--timestamp-column", "t", "--url", server_url]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, env=same_user_environment())
    assert process.stdin is not None
    if while_it == "reads":
        process.stdin.write(b"t,v\n" * (1 << 16))  # more than a pipe holds: once it is written, the command reads
        process.stdin.flush()
    else:
        loaded = Path(f"/proc/{process.pid}/maps")
        wait_until(lambda: "pyarrow" in loaded.read_text())

    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)

    assert process.returncode == 1
    assert b"is safe" in err
    assert b"Traceback" not in err


def test_doctor_on_a_new_machine(tmp_path: Path) -> None:
    """Without anything there, the doctor says so, and changes nothing."""
    done = run_process("doctor", "--data-dir", str(tmp_path / "none"), "--json")

    assert done.code == 0, done.out + done.err
    checks = {check["check"]: check for check in done.document["checks"]}
    assert checks["versions"]["level"] == "ok"
    assert "serve makes it" in checks["data directory"]["advice"]
    assert not (tmp_path / "none").exists()


def test_doctor_with_and_without_a_server(server_process: Callable[..., ServerProcess]) -> None:
    """On a data directory: a running server is asked; of a stopped one, the catalog is started and looked at."""
    server = server_process()
    url = server.url
    running = run_process("doctor", "--data-dir", str(server.data_dir), "--json")
    asked = run_process("doctor", "--url", url, "--json")
    assert server.terminate() == 0
    stopped = run_process("doctor", "--data-dir", str(server.data_dir))

    assert running.document["ok"], running.out
    assert asked.document["ok"], asked.out
    assert {"server", "catalog", "storage", "clock"} <= {check["check"] for check in asked.document["checks"]}
    assert url in running.out
    assert stopped.code == 0, stopped.out
    assert "commits durably" in stopped.out
    assert not (server.data_dir / "server.json").exists()


def test_doctor_finds_problems(tmp_path: Path, service: Service) -> None:
    """A server that is not there, a catalog that cannot be reached: a problem with advice, and exit code 1."""
    (tmp_path / "d").mkdir()

    nobody = run_process("doctor", "--url", "grpc://127.0.0.1:1", "--deadline", "0")
    catalog = run_process(
        "doctor",
        "--data-dir",
        str(tmp_path / "d"),
        TIMESTORE_CATALOG_DSN="host=127.0.0.1 port=1 user=u password=secret",
    )

    assert (nobody.code, catalog.code) == (1, 1)
    assert "timestore serve" in nobody.out
    assert "PROBLEM  catalog" in catalog.out
    assert "->" in catalog.out
    assert "secret" not in catalog.out + catalog.err
    assert service.url


def test_own_csv_to_sql_to_pandas(server_process: Callable[..., ServerProcess], tmp_path: Path) -> None:
    """The first five minutes: a server, one's own CSV stored, queried by SQL, and read in pandas."""
    (tmp_path / "cpu.csv").write_text(
        "time,host,usage\n2026-01-01T00:00:00Z,a,0.25\n2026-01-01T00:00:10Z,b,0.5\n2026-01-02T00:00:00Z,a,0.75\n"
    )
    url = server_process().url
    put = ("put", str(tmp_path / "cpu.csv"), "--dataset", "cpu", "--key", "region=eu", "--timestamp-column", "time")

    first = run_process(*put, TIMESTORE_URL=url)
    again = run_process(*put, TIMESTORE_URL=url)
    query = "SELECT host, avg(usage) AS usage FROM cpu WHERE region = 'eu' GROUP BY host ORDER BY host"
    table = run_process("sql", query, TIMESTORE_URL=url)
    frame = ts_client.connect(url).read("cpu").to_pandas()

    assert "3 rows in cpu at version 1 (2 files)" in first.out
    assert "was there already" in again.out
    assert [line.split() for line in table.out.splitlines()[2:4]] == [["a", "0.5"], ["b", "0.5"]]
    assert frame["usage"].tolist() == [0.25, 0.5, 0.75]
    assert str(frame["time"].dt.tz) == "UTC"


def test_tables_wider_than_a_terminal(filled: Run) -> None:
    """Where no terminal looks on, no cell is cut: the output may be read by a program."""
    assert all(".duckdb" in line for line in filled("manifest", "cpu").out.splitlines()[2:6])


def test_progress_bar_only_on_a_terminal(filled: Run, tmp_path: Path) -> None:
    """Without a terminal nothing but the result is printed."""
    parquet.write_table(ROWS, tmp_path / "a.parquet")

    done = filled("put", str(tmp_path / "a.parquet"), "--dataset", "other")

    assert done.err == ""
    assert len(done.out.splitlines()) == 1
