"""`predict --input s3://… --output s3://…`: files that are not on this machine, through fsspec."""

from __future__ import annotations

import functools
import http.server
import importlib.abc
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from inprocess import Result
from inprocess import run as cli

from textattn.storage.remote import is_remote

ROWS = ["id,text", "1,good film", "2,bad soup", "3,the waiter was rude"]
CSV = "".join(f"{row}\n" for row in ROWS)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trained_run: Path) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TEXTATTN_MODEL", str(trained_run))
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    return tmp_path


@pytest.fixture
def memory() -> Iterator[Any]:
    system = fsspec.filesystem("memory")
    system.store.clear()
    system.pseudo_dirs[:] = [""]
    yield system
    system.store.clear()


def predict(*arguments: str) -> Result:
    return cli("predict", *arguments)


def local_answer(*more: str) -> bytes:
    Path("in.csv").write_text(CSV, encoding="utf-8")
    done = predict("--input", "in.csv", "--output", "local.csv", "--overwrite", *more)
    assert done.code == 0, done.err
    return Path("local.csv").read_bytes()


def nothing_left() -> None:
    assert list(Path("temporary").iterdir()) == []


def test_what_is_a_url() -> None:
    for name in (
        "s3://bucket/a.csv",
        "gs://b/*.parquet",
        "https://x.org/a.csv",
        "simplecache::s3://b/x",
        "abfss://c@a/x",
    ):
        assert is_remote(name), name
    for name in ("a.csv", "./s3:/a", "C:\\a.csv", "c:/a.csv", "-", "://x", "s3://", "", "a b://c", "1s://x"):
        assert not is_remote(name), name


def test_in_memory(memory: Any) -> None:
    memory.pipe("/bucket/in.csv", CSV.encode())
    done = predict("--input", "memory://bucket/in.csv", "--output", "memory://bucket/out.csv")
    assert done.code == 0, done.err
    assert "3 rows answered" in done.err and ": memory://bucket/out.csv" in done.err
    assert memory.cat("/bucket/out.csv") == local_answer()
    assert sorted(memory.ls("/bucket", detail=False)) == ["/bucket/in.csv", "/bucket/out.csv"]
    nothing_left()


def test_without_output_answers_are_printed(memory: Any) -> None:
    memory.pipe("/bucket/in.csv", CSV.encode())
    done = predict("--input", "memory://bucket/in.csv")
    assert done.code == 0, done.err
    assert len(done.out.splitlines()) == 3
    nothing_left()


def test_patterns_stand_for_files_in_order(memory: Any) -> None:
    for name in ("b", "a", "c"):
        memory.pipe(f"/bucket/{name}.csv", f"text\ngood {name}\n".encode())
    memory.pipe("/bucket/other.txt", b"no")
    done = predict("--input", "memory://bucket/?.csv", "--output", "out.csv")
    assert done.code == 0, done.err
    lines = Path("out.csv").read_text(encoding="utf-8").splitlines()
    assert [line.split(",")[0] for line in lines] == ["text", "good a", "good b", "good c"]
    assert lines[1].endswith("/bucket/a.csv") and "memory:" in lines[1]
    done = predict("--input", "memory://bucket/*.parquet")
    assert (done.code, done.err.splitlines()[0]) == (3, "Error: memory://bucket/*.parquet: no such file")


def test_errors_name_the_url(memory: Any) -> None:
    done = predict("--input", "memory://bucket/none.csv")
    assert (done.code, done.err.splitlines()[0]) == (3, "Error: memory://bucket/none.csv: no such file")
    memory.pipe("/bucket/in.csv", CSV.replace("bad soup", "").encode())
    for output in ("out.csv", "memory://bucket/out.csv"):
        done = predict("--input", "memory://bucket/in.csv", "--output", output)
        assert done.code == 3
        assert done.err.startswith("Error: memory://bucket/in.csv:3: column 'text' is empty; expected a text")
        assert str(Path("temporary").resolve()) not in done.err.splitlines()[0]
    memory.pipe("/bucket/in.parquet", b"PAR1 and no more")
    done = predict("--input", "memory://bucket/in.parquet")
    assert done.code == 3
    assert done.err.startswith("Error: memory://bucket/in.parquet: not a parquet file")
    done = predict("--input", "memory://bucket")
    assert done.code == 3
    assert "memory://bucket: a folder" in done.err and "--input 'memory://bucket/*.parquet'" in done.err
    assert not memory.exists("/bucket/out.csv")


def test_a_file_is_replaced_only_when_asked(memory: Any) -> None:
    memory.pipe("/bucket/in.csv", CSV.encode())
    memory.pipe("/bucket/out.csv", b"mine")
    arguments = ("--input", "memory://bucket/in.csv", "--output", "memory://bucket/out.csv")
    done = predict(*arguments)
    assert done.code == 2
    assert "--output: memory://bucket/out.csv exists; nothing was changed" in done.err
    assert memory.cat("/bucket/out.csv") == b"mine"
    assert predict(*arguments, "--overwrite").code == 0
    assert memory.cat("/bucket/out.csv") == local_answer()


def test_an_interrupted_job_is_resumed_from_this_machine(memory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from textattn.data import chunks

    monkeypatch.setattr(chunks, "MAX_ROWS", 1)
    memory.pipe("/bucket/in.csv", CSV.replace("the waiter was rude", "").encode())
    arguments = ("--input", "memory://bucket/in.csv", "--output", "memory://bucket/out.csv")
    done = predict(*arguments)
    assert done.code == 3
    assert "--resume" in done.err and "2 rows are answered in" in done.err
    assert not memory.exists("/bucket/out.csv")
    memory.pipe("/bucket/in.csv", CSV.encode())
    done = predict(*arguments)
    assert done.code == 2 and "an interrupted run is there" in done.err
    done = predict(*arguments, "--resume")
    assert done.code == 0, done.err
    assert "3 rows answered, 2 of them before" in done.err
    assert memory.cat("/bucket/out.csv") == local_answer()
    nothing_left()


def test_what_cannot_be_sent_is_kept(memory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    memory.pipe("/bucket/in.csv", CSV.encode())

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError("Access Denied")

    arguments = ("--input", "memory://bucket/in.csv", "--output", "memory://bucket/out.csv")
    with monkeypatch.context() as broken:
        broken.setattr(type(memory), "put_file", refuse)
        done = predict(*arguments)
    assert done.code == 1
    assert "memory://bucket/out.csv cannot be written: Access Denied; all rows are answered in" in done.err
    (kept,) = Path("temporary").rglob("out.csv")
    assert str(kept.resolve()) in done.err
    assert kept.read_bytes() == local_answer()
    assert predict(*arguments).code == 0
    assert memory.cat("/bucket/out.csv") == local_answer()
    nothing_left()


def test_where_moving_is_needed_the_file_still_appears_whole(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text(CSV, encoding="utf-8")
    url = (tmp_path / "new" / "out.csv").as_uri()
    done = predict("--input", (tmp_path / "in.csv").as_uri(), "--output", url)
    assert done.code == 0, done.err
    assert (tmp_path / "new" / "out.csv").read_bytes() == local_answer()
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["out.csv"]
    nothing_left()


def test_the_most_useful_rows(memory: Any) -> None:
    memory.pipe("/bucket/in.csv", CSV.encode())
    arguments = ("--input", "memory://bucket/in.csv", "--output", "memory://bucket/next.csv", "--most-useful", "2")
    done = predict(*arguments)
    assert done.code == 0, done.err
    assert memory.cat("/bucket/next.csv").count(b"\n") == 3
    assert predict(*arguments).code == 2
    nothing_left()


class Hidden(importlib.abc.MetaPathFinder):
    """A package that is not installed."""

    def __init__(self, name: str) -> None:
        self.name = name

    def find_spec(self, name: str, *_: object) -> None:
        if name.split(".")[0] == self.name:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


@pytest.mark.parametrize(("url", "package"), [("s3://b/x.csv", "s3fs"), ("gs://b/x.csv", "gcsfs")])
def test_a_missing_package_is_named(url: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "meta_path", [Hidden(package), *sys.meta_path])
    for name in [name for name in sys.modules if name.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, url.split(":")[0], raising=False)
    for arguments in (("--input", url), ("--input", "in.csv", "--output", url)):
        Path("in.csv").write_text(CSV, encoding="utf-8")
        done = predict(*arguments)
        assert done.code == 2, done.err
        assert f"{url.split(':')[0]}:// needs the package {package}" in done.err
        assert "pip install 'textattn[remote]'" in done.err


def test_unknown_protocols() -> None:
    done = predict("--input", "nothing://b/x.csv")
    assert done.code == 2
    assert "--input: nothing://b/x.csv: Protocol not known" in done.err


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """A web server of this machine for the folder `web`."""
    (tmp_path / "web").mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    handler = functools.partial(Quiet, directory=str(tmp_path / "web"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as listening:
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{listening.server_address[1]}"
        listening.shutdown()
        thread.join()


def test_web_addresses_are_read_and_not_written(server: str) -> None:
    pytest.importorskip("aiohttp")
    Path("web/in.csv").write_text(CSV, encoding="utf-8")
    for url in (f"{server}/in.csv", f"{server}/in.csv?key=a/b.txt"):
        done = predict("--input", url, "--output", "out.csv", "--overwrite")
        assert done.code == 0, done.err
        assert Path("out.csv").read_bytes() == local_answer()
    done = predict("--input", f"{server}/none.csv")
    assert (done.code, done.err.splitlines()[0]) == (3, f"Error: {server}/none.csv: no such file")
    done = predict("--input", "in.csv", "--output", f"{server}/out.csv")
    assert done.code == 2
    assert f"{server}/out.csv: http can only be read" in done.err
    with_nobody = "http://127.0.0.1:9/in.csv"
    done = predict("--input", with_nobody)
    assert done.code == 3
    assert done.err.startswith(f"Error: {with_nobody}: cannot be read (")


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A bucket of a real S3 server on this machine."""
    pytest.importorskip("s3fs")
    moto = pytest.importorskip("moto.server")
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    for name, value in (("ACCESS_KEY_ID", "x"), ("SECRET_ACCESS_KEY", "x"), ("DEFAULT_REGION", "us-east-1")):
        monkeypatch.setenv(f"AWS_{name}", value)
    system = fsspec.filesystem("s3", skip_instance_cache=True)
    system.mkdir("bucket")
    yield system
    fsspec.filesystem("s3").clear_instance_cache()
    server.stop()


@pytest.mark.slow
def test_s3(bucket: Any) -> None:
    for number in range(2):
        bucket.pipe(f"bucket/in{number}.csv", CSV.encode())
    arguments = ("--input", "s3://bucket/*.csv", "--output", "s3://bucket/answers/out.parquet")
    done = predict(*arguments)
    assert done.code == 0, done.err
    assert "6 rows answered" in done.err
    fsspec.filesystem("s3").invalidate_cache()
    bucket.invalidate_cache()
    import pyarrow.parquet as pq

    table = pq.read_table("bucket/answers/out.parquet", filesystem=bucket)
    assert table.column("file").to_pylist() == ["s3://bucket/in0.csv"] * 3 + ["s3://bucket/in1.csv"] * 3
    assert predict(*arguments).code == 2
    assert predict(*arguments, "--overwrite").code == 0
    done = predict("--input", "s3://bucket/none.csv")
    assert (done.code, done.err.splitlines()[0]) == (3, "Error: s3://bucket/none.csv: no such file")
    done = predict("--input", "s3://nobucket/*.csv")
    assert done.code == 3
    nothing_left()


def test_paths_of_this_machine_load_no_fsspec(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text(CSV, encoding="utf-8")
    script = (
        "import atexit, sys\n"
        "atexit.register(lambda: print(sorted({'fsspec', 'aiohttp', 's3fs', 'ray', 'pandas'} & sys.modules.keys())))\n"
        "sys.argv[1:] = ['predict', '--input', 'in.csv', '--output', 'out.csv']\n"
        "from textattn.cli import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=os.environ)
    assert done.stdout == "[]\n"
