import errno
import gzip
import hashlib
import http.server
import os
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import make_sample
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from gdlayer.datasets import DataCorruptError, DataError, DataFile, DataNotFoundError, balanced_subset, find
from gdlayer.datasets import fashion_mnist as fm
from gdlayer.datasets import files as files_module
from gdlayer.datasets.idx import read_idx, write_idx

CONTENT = b"published bytes\n" * 10000
SHA256 = hashlib.sha256(CONTENT).hexdigest()
PATH = "some-set/some.bin"

SAMPLE = Path(fm.__file__).parent / "sample"
GIVEN_DATA = os.environ.get("GDLAYER_DATA", "")
real_data = pytest.mark.skipif(
    not any((Path(root).expanduser() / fm.FILES[0].path).exists() for root in GIVEN_DATA.split(os.pathsep) if root),
    reason="GDLAYER_DATA has no Fashion-MNIST",
)


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    """Run every test with an empty cache, no GDLAYER_DATA, and nothing between it and 127.0.0.1."""
    for name in ("GDLAYER_DATA", "GDLAYER_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GDLAYER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return tmp_path / "cache"


def put(root: Path, content: bytes = CONTENT) -> Path:
    (root / PATH).parent.mkdir(parents=True)
    (root / PATH).write_bytes(content)
    return root / PATH


def tree(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.is_file()]


class Server:
    """Answers request i with `answers[i]` (status, body, bytes really sent), the last one for ever."""

    def __init__(self):
        self.answers, self.requests = [(200, CONTENT, len(CONTENT))], 0
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                status, body, sent = outer.answers[min(outer.requests, len(outer.answers) - 1)]
                outer.requests += 1
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body[:sent])

            def log_message(self, format, *args):
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.file = DataFile(PATH, f"http://127.0.0.1:{self.http.server_port}/some.bin", SHA256)


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr("pooch.core.time", type("NoSleep", (), {"sleep": staticmethod(lambda _: None)}))
    server = Server()
    thread = threading.Thread(target=server.http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.http.shutdown()
    thread.join()
    server.http.server_close()


# --- find ----------------------------------------------------------------------------------------------------------


def test_find_prefers_data_directories_in_order_then_cache_then_download(server, cache, monkeypatch, tmp_path):
    assert find(server.file) == (cache / PATH, "download")
    assert (cache / PATH).read_bytes() == CONTENT
    assert find(server.file) == (cache / PATH, "cache")
    empty, first, second = tmp_path / "empty", tmp_path / "first", tmp_path / "second"
    empty.mkdir()
    put(first)
    put(second)
    monkeypatch.setenv("GDLAYER_DATA", os.pathsep.join(["", str(empty), str(first), str(second)]))
    assert find(server.file) == (first / PATH, "GDLAYER_DATA")
    assert server.requests == 1


def test_data_directory_and_cache_know_the_home_directory(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.setenv("GDLAYER_DATA", "~/mine")
    file = DataFile(PATH, "http://127.0.0.1:9/never", SHA256)
    mine = put(tmp_path / "mine")
    assert find(file) == (mine, "GDLAYER_DATA")
    monkeypatch.delenv("GDLAYER_DATA")
    monkeypatch.setenv("GDLAYER_CACHE", "~/own-cache")
    own = put(tmp_path / "own-cache")
    assert find(file) == (own, "cache")
    monkeypatch.delenv("GDLAYER_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    xdg = put(tmp_path / "xdg" / "gdlayer")
    assert find(file) == (xdg, "cache")
    monkeypatch.delenv("XDG_CACHE_HOME")
    default = put(tmp_path / ".cache" / "gdlayer")
    assert find(file) == (default, "cache")


@pytest.mark.parametrize("kind", ["missing", "file"])
def test_data_directory_that_is_none_is_an_error(server, monkeypatch, tmp_path, kind):
    named = tmp_path / "named"
    if kind == "file":
        named.write_text("")
    monkeypatch.setenv("GDLAYER_DATA", str(named))
    with pytest.raises(DataError, match=r"GDLAYER_DATA names .*named', which is not a directory"):
        find(server.file)
    assert server.requests == 0


@pytest.mark.parametrize("place", ["GDLAYER_DATA", "cache"])
def test_wrong_file_is_an_error_and_stays(server, cache, monkeypatch, tmp_path, place):
    wrong = b"truncated"
    path = put(cache if place == "cache" else tmp_path / "data", wrong)
    if place == "GDLAYER_DATA":
        put(cache)
        monkeypatch.setenv("GDLAYER_DATA", str(tmp_path / "data"))
    with pytest.raises(DataCorruptError) as caught:
        find(server.file)
    message = str(caught.value)
    for part in (str(path), SHA256, hashlib.sha256(wrong).hexdigest(), "9 bytes", "remove it", server.file.url):
        assert part in message
    assert "\n" not in message
    assert path.read_bytes() == wrong
    assert server.requests == 0


def test_what_cannot_be_read_is_an_error(server, cache):
    (cache / PATH).mkdir(parents=True)
    with pytest.raises(DataError, match=r"some\.bin cannot be read: "):
        find(server.file)


def test_offline_error_names_file_url_and_variable(server, monkeypatch, tmp_path):
    monkeypatch.setenv("GDLAYER_DATA", str(tmp_path))
    monkeypatch.setenv("GDLAYER_OFFLINE", "1")
    with pytest.raises(DataNotFoundError) as caught:
        find(server.file)
    message = str(caught.value)
    for part in (PATH, server.file.url, f"GDLAYER_DATA={str(tmp_path)!r}", "GDLAYER_OFFLINE=1 forbids it"):
        assert part in message
    assert "\n" not in message
    assert server.requests == 0
    monkeypatch.setenv("GDLAYER_OFFLINE", "0")
    assert find(server.file)[1] == "download"


def test_without_a_network_there_is_one_short_attempt(cache):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # bound, never listening: connections are refused
        file = DataFile(PATH, f"http://127.0.0.1:{closed.getsockname()[1]}/some.bin", SHA256)
        start = time.monotonic()
        with pytest.raises(DataNotFoundError, match=r"was not downloaded: no connection \(ConnectionError\)"):
            find(file)
    assert time.monotonic() - start < 2
    assert tree(cache) == []


def test_download_is_tried_again(server, cache):
    server.answers = [(503, b"", 0), (200, CONTENT, 1000), (200, CONTENT, len(CONTENT))]
    assert find(server.file) == (cache / PATH, "download")
    assert server.requests == 3
    assert tree(cache) == [cache / PATH]


@pytest.mark.parametrize(
    ("answer", "error", "message"),
    [
        ((404, b"gone", 4), DataNotFoundError, "404 Client Error"),
        ((200, CONTENT, 70000), DataNotFoundError, "IncompleteRead"),
        ((200, b"<html>", 6), DataCorruptError, rf"SHA256 \w{{64}} \(6 bytes\), expected {SHA256}"),
    ],
)
def test_failed_download_leaves_nothing(server, cache, answer, error, message):
    server.answers = [answer]
    with pytest.raises(error, match=message) as caught:
        find(server.file)
    assert "\n" not in str(caught.value)
    assert server.file.url in str(caught.value)
    assert server.requests == 1 + files_module.RETRIES
    assert tree(cache) == []


def test_interrupted_download_leaves_nothing(server, cache, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(files_module, "_verify", interrupt)
    with pytest.raises(KeyboardInterrupt):
        find(server.file)
    assert tree(cache) == []


def test_cache_that_cannot_be_made_is_one_line(server, cache):
    cache.write_text("a file where the directory should be")
    with pytest.raises(DataNotFoundError, match=r"the cache cannot be written \(.*\), GDLAYER_CACHE can name"):
        find(server.file)
    assert cache.read_text() == "a file where the directory should be"


def test_full_disk_is_one_line_and_leaves_nothing(server, cache, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("shutil.move", full)
    with pytest.raises(DataNotFoundError, match=r"the cache cannot be written \(No space left on device\)"):
        find(server.file)
    assert tree(cache) == []


@pytest.mark.parametrize("missing", ["pooch", "requests", "tqdm"])
def test_missing_package_is_named(server, monkeypatch, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(DataNotFoundError, match=rf"{missing} is not installed: pip install 'gdlayer\[experiments\]'"):
        find(server.file)


def test_download_is_silent_off_a_terminal_and_shows_progress_on_one(server, cache, monkeypatch, capsys):
    find(server.file)
    assert capsys.readouterr() == ("", "")
    (cache / PATH).unlink()
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    find(server.file)
    assert "100%" in capsys.readouterr().err


def test_import_is_light():
    heavy = "{'torch', 'pooch', 'requests', 'tqdm'}"
    code = f"import gdlayer.datasets.fashion_mnist, sys; assert not {heavy} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


# --- IDX -----------------------------------------------------------------------------------------------------------


def idx(path: Path, payload: bytes) -> Path:
    path.write_bytes(gzip.compress(payload))
    return path


@given(arrays(np.uint8, array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=7)))
@settings(max_examples=50)
def test_idx_round_trip(tmp_path_factory, array):
    path = tmp_path_factory.mktemp("idx") / "a.gz"
    write_idx(path, array)
    read = read_idx(path)
    np.testing.assert_array_equal(read, array, strict=True)
    assert read.flags.writeable
    first = path.read_bytes()
    write_idx(path.with_name("b.gz"), array)
    assert path.with_name("b.gz").read_bytes() == first


def test_write_idx_refuses_other_types(tmp_path):
    with pytest.raises(ValueError, match="array must have dtype uint8, got float64"):
        write_idx(tmp_path / "a.gz", np.zeros(3))
    assert tree(tmp_path) == []


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        (b"", "IDX magic '', expected '000008'"),
        (b"\0\0\x08", "IDX magic '000008', expected"),
        (b"\0\0\x0d\1\0\0\0\1\0\0\0\0", "IDX magic '00000d01', expected '000008'"),
        (b"\0\0\x08\2\0\0\0\1", r"truncated in the header, 4 bytes for 2 dimensions, expected 8"),
        (struct.pack(">4B2I", 0, 0, 8, 2, 3, 4) + bytes(11), r"shape \(3, 4\) needs 12 bytes, found only 11"),
        (struct.pack(">4B2I", 0, 0, 8, 2, 3, 4) + bytes(13), r"shape \(3, 4\) needs 12 bytes, found more"),
        (struct.pack(">4B3I", 0, 0, 8, 3, *[2**32 - 1] * 3), rf"is {(2**32 - 1) ** 3} bytes, allowed are {2**28}"),
        (struct.pack(">4B1I", 0, 0, 8, 1, 2**28), rf"needs {2**28} bytes, found only 0"),
        (struct.pack(">4B1I", 0, 0, 8, 1, 5) + bytes(2**26), "needs 5 bytes, found more"),
    ],
)
def test_idx_refuses_wrong_bytes_without_reading_or_allocating_them(tmp_path, payload, message):
    import tracemalloc

    path = idx(tmp_path / "hostile.gz", payload)
    tracemalloc.start()
    try:
        with pytest.raises(DataCorruptError, match=r"hostile\.gz: .*" + message):
            read_idx(path)
        assert tracemalloc.get_traced_memory()[1] < 2**23
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("damage", ["truncated", "flipped", "not gzip", "trailing"])
def test_idx_refuses_a_broken_stream(tmp_path, damage):
    path = tmp_path / "a.gz"
    write_idx(path, np.random.default_rng(0).integers(0, 256, (50, 50), np.uint8))
    good = path.read_bytes()
    broken = {
        "truncated": good[:-100],
        "flipped": good[:-8] + bytes([good[-8] ^ 1]) + good[-7:],
        "not gzip": b"<html>" + good,
        "trailing": good + b"more",
    }
    path.write_bytes(broken[damage])
    with pytest.raises(DataCorruptError, match=r"a\.gz: broken gzip stream: "):
        read_idx(path)


# --- balanced_subset -----------------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 4), min_size=1, max_size=60), st.data(), st.integers(0, 2**70))
def test_balanced_subset_is_nested_distinct_and_as_balanced_as_can_be(labels, data, seed):
    n = data.draw(st.integers(1, len(labels)))
    chosen = balanced_subset(labels, n, seed)
    assert chosen.dtype == np.int64
    assert chosen.shape == (n,)
    assert len(set(chosen.tolist())) == n
    np.testing.assert_array_equal(chosen, balanced_subset(labels, len(labels), seed)[:n])
    available = np.bincount(labels, minlength=5)
    counts = np.bincount(np.array(labels)[chosen], minlength=5)
    assert counts[counts < available].min(initial=n) >= counts.max() - 1


def test_balanced_subset_never_changes():
    labels = np.arange(40) % 4
    assert balanced_subset(labels, 8, 0).tolist() == [11, 20, 13, 2, 3, 21, 32, 18]
    assert balanced_subset(labels, 8, 1).tolist() == [9, 36, 39, 2, 31, 16, 18, 21]


@pytest.mark.parametrize("n", [0, -1, 11, 2.0, "3", None, True])
def test_balanced_subset_refuses_n(n):
    error = ValueError if type(n) is int else TypeError
    with pytest.raises(error, match=rf"^n must be an integer from 1 to 10, got {n!r}$"):
        balanced_subset(np.arange(10), n, 0)


@pytest.mark.parametrize("seed", [-1, 1.5, None, False])
def test_balanced_subset_refuses_seed(seed):
    error = ValueError if type(seed) is int else TypeError
    with pytest.raises(error, match=rf"^seed must be an integer >= 0, got {seed!r}$"):
        balanced_subset(np.arange(10), 1, seed)


@pytest.mark.parametrize("labels", [np.zeros((2, 3), int), np.zeros(4), np.array(["a"])])
def test_balanced_subset_refuses_labels(labels):
    with pytest.raises(ValueError, match=r"labels must be integers of shape \(m,\), got shape .* and dtype "):
        balanced_subset(labels, 1, 0)


def test_balanced_subset_takes_numpy_integers():
    np.testing.assert_array_equal(
        balanced_subset(np.arange(9) % 3, np.int64(4), np.uint8(2)), balanced_subset(np.arange(9) % 3, 4, 2)
    )


# --- Fashion-MNIST -------------------------------------------------------------------------------------------------


def check(images: fm.ImageSet, n_train: int, n_test: int) -> None:
    for x, y, n in (
        (images.train_images, images.train_labels, n_train),
        (images.test_images, images.test_labels, n_test),
    ):
        assert x.shape == (n, 28, 28)
        assert x.dtype == np.uint8
        assert y.dtype == np.int64
        np.testing.assert_array_equal(np.bincount(y), np.full(len(fm.CLASSES), n // 10))


def test_sample_needs_no_network_and_no_directory(monkeypatch, cache):
    monkeypatch.setenv("GDLAYER_OFFLINE", "1")
    sample = fm.load("fashion-mnist-sample")
    check(sample, 5000, 1000)
    assert (sample.name, sample.source) == ("fashion-mnist-sample", "sample")
    assert len(sample.sha256) == 64
    assert not cache.exists()


def test_sample_is_small_and_its_readme_tells_its_hashes():
    paths = tree(SAMPLE)
    assert sum(path.stat().st_size for path in paths if path.suffix == ".gz") < 3e6
    readme = (SAMPLE / "README.md").read_text(encoding="utf-8")
    for file in fm.SAMPLE_FILES:
        assert f"| `{Path(file.path).name}` | `{file.sha256}` |" in readme


def test_sample_absent_or_wrong_is_an_error(monkeypatch, tmp_path):
    monkeypatch.setattr(files_module, "_EMBEDDED", tmp_path)
    absent = r"train-images-idx3-ubyte.gz is missing, a file of gdlayer itself; install gdlayer anew$"
    with pytest.raises(DataNotFoundError, match=absent):
        fm.load("fashion-mnist-sample")
    (tmp_path / "sample" / "fashion-mnist").mkdir(parents=True)
    (tmp_path / "sample" / "fashion-mnist" / "train-images-idx3-ubyte.gz").write_bytes(b"x")
    with pytest.raises(DataCorruptError, match=r"\(1 bytes\), expected \w{64}; install gdlayer anew"):
        fm.load("fashion-mnist-sample")


def test_load_never_falls_back(monkeypatch):
    monkeypatch.setenv("GDLAYER_OFFLINE", "1")
    with pytest.raises(DataNotFoundError, match=r"fashion-mnist/train-images-idx3-ubyte\.gz is neither in"):
        fm.load("fashion-mnist")
    with pytest.raises(ValueError, match="name must be one of 'fashion-mnist', 'fashion-mnist-sample', got 'mnist'"):
        fm.load("mnist")


def test_resolve_falls_back_with_a_reason(monkeypatch):
    monkeypatch.setenv("GDLAYER_OFFLINE", "1")
    lines = []
    assert fm.resolve(lines.append) == fm.resolve() == "fashion-mnist-sample"
    [line] = lines
    assert line.startswith("fashion-mnist-sample instead of fashion-mnist: fashion-mnist/train-images")
    assert "GDLAYER_OFFLINE=1 forbids it" in line
    assert "\n" not in line


def test_resolve_and_load_use_a_small_published_set(server, monkeypatch):
    monkeypatch.setattr(fm, "FILES", (server.file,))
    assert fm.resolve(pytest.fail) == "fashion-mnist"
    assert server.requests == 1


def test_resolve_never_works_around_errors(monkeypatch, tmp_path):
    monkeypatch.setenv("GDLAYER_OFFLINE", "1")
    monkeypatch.setenv("GDLAYER_DATA", str(tmp_path))
    (tmp_path / "fashion-mnist").mkdir()
    (tmp_path / fm.FILES[0].path).write_bytes(b"wrong")
    with pytest.raises(DataCorruptError, match=r"\(5 bytes\), expected 3aede38d"):
        fm.resolve()
    monkeypatch.setenv("GDLAYER_DATA", str(tmp_path / "typo"))
    with pytest.raises(DataError, match="typo', which is not a directory"):
        fm.resolve()


@real_data
def test_real_data(monkeypatch, cache):
    monkeypatch.setenv("GDLAYER_DATA", GIVEN_DATA)
    roots = [Path(root).expanduser() / "fashion-mnist" for root in GIVEN_DATA.split(os.pathsep) if root]
    before = [(path, path.stat().st_mtime_ns) for root in roots for path in tree(root)]
    assert fm.resolve(pytest.fail) == "fashion-mnist"
    full = fm.load()
    check(full, 60000, 10000)
    assert (full.name, full.source) == ("fashion-mnist", "GDLAYER_DATA")
    assert full.train_labels[:10].tolist() == [9, 0, 0, 3, 0, 2, 7, 2, 5, 5]
    assert [(path, path.stat().st_mtime_ns) for root in roots for path in tree(root)] == before
    assert not cache.exists()


@real_data
def test_sample_is_what_its_script_draws(monkeypatch, tmp_path):
    monkeypatch.setenv("GDLAYER_DATA", GIVEN_DATA)
    make_sample.make_sample(tmp_path / "again")
    for file in fm.SAMPLE_FILES:  # not the compressed bytes: those may differ from one zlib to another
        again, kept = (root / "fashion-mnist" / Path(file.path).name for root in (tmp_path / "again", SAMPLE))
        assert gzip.decompress(again.read_bytes()) == gzip.decompress(kept.read_bytes())
