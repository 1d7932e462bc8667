"""Data files that are truncated, damaged or made to do harm: one clear error each, and nothing written by the way."""

import ast
import gc
import gzip
import hashlib
import io
import ntpath
import os
import posixpath
import random
import socket
import stat
import struct
import threading
import tracemalloc
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from gdlayer.datasets import DataCorruptError, DataError, DataFile, DataNotFoundError, cats_dogs, find, nuclei, pictures
from gdlayer.datasets import files as files_module
from gdlayer.datasets.cache import cached
from gdlayer.datasets.idx import MAX_DIMENSIONS, read_idx, write_idx
from gdlayer.datasets.pictures import decode, open_archive, read_member

REPOSITORY = Path(__file__).parents[2]
MEBIBYTE = 1 << 20
EXTREMES = st.sampled_from([0, 1, 2, 3, 255, 2**16, 2**31 - 1, 2**31, 2**32 - 1])


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    """Run every test with an empty cache, a data directory, and nothing between it and 127.0.0.1."""
    (tmp_path / "data").mkdir()
    monkeypatch.setenv("GDLAYER_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("GDLAYER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("GDLAYER_OFFLINE", raising=False)
    return tmp_path / "cache"


@contextmanager
def memory_below(limit: int) -> Iterator[None]:
    """Fail when Python and NumPy together come to hold more bytes than that."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < limit
    finally:
        tracemalloc.stop()


def state(root: Path) -> dict[Path, bytes | None]:
    """Every file and folder below, with its bytes."""
    return {path: path.read_bytes() if path.is_file() else None for path in root.rglob("*")}


def message_of(error: pytest.ExceptionInfo[DataError]) -> str:
    """The one line that it is."""
    message = str(error.value)
    assert "\n" not in message
    return message


def outcome(read: Callable[[], Any]) -> tuple[Any, str]:
    """What a reader gives, or None, and the one line of its error, or ""."""
    try:
        return read(), ""
    except DataError as error:
        message = str(error)
    assert "\n" not in message
    return None, message


def bit_flips(good: bytes) -> Iterator[bytes]:
    for place in range(8 * len(good)):
        byte, bit = divmod(place, 8)
        yield good[:byte] + bytes([good[byte] ^ 1 << bit]) + good[byte + 1 :]


# --- published files -----------------------------------------------------------------------------------------------


def test_published_file_with_any_bit_flipped_or_bytes_missing_is_refused_and_left(tmp_path):
    good = random.Random(0).randbytes(20)
    file = DataFile("set/some.bin", None, hashlib.sha256(good).hexdigest())
    path = tmp_path / "data" / file.path
    path.parent.mkdir()
    for bad in [*bit_flips(good), *(good[:keep] for keep in range(len(good))), good + b"\0"]:
        path.write_bytes(bad)
        before = state(tmp_path)
        with pytest.raises(DataCorruptError) as caught:
            find(file)
        assert message_of(caught).startswith(f"{path} is not the published file: SHA256 ")
        assert f"({len(bad)} bytes), expected {file.sha256}; remove it" in message_of(caught)
        assert state(tmp_path) == before
    path.write_bytes(good)
    assert find(file) == (path, "GDLAYER_DATA")


@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "link to nothing"])
def test_published_file_that_is_none_is_never_opened(tmp_path, kind):
    path = tmp_path / "data" / "some.bin"
    {
        "pipe": lambda: os.mkfifo(path),
        "device": lambda: path.symlink_to("/dev/zero"),
        "folder": path.mkdir,
        "link to nothing": lambda: path.symlink_to("nothing"),
    }[kind]()
    with pytest.raises(DataError) as caught:
        find(DataFile("some.bin", None, "0" * 64))
    assert message_of(caught) == f"{path} cannot be read: it is no regular file"


# --- downloads -----------------------------------------------------------------------------------------------------

OK = b"HTTP/1.1 200 OK\r\n"


class Server:
    """Answers every request with the same bytes, whatever they are, the last part for ever if `endless`."""

    def __init__(self, answer: bytes, endless: bytes = b""):
        self.answer, self.endless, self.requests = answer, endless, 0
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.file = DataFile("set/some.bin", f"http://127.0.0.1:{self.socket.getsockname()[1]}/some.bin", "0" * 64)

    def serve(self) -> None:
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:  # closed
                return
            with connection:
                try:
                    while b"\r\n\r\n" not in connection.recv(1 << 16):
                        pass
                    self.requests += 1
                    connection.sendall(self.answer)
                    while self.endless:
                        connection.sendall(self.endless)
                except OSError:  # the client has had enough
                    pass


@pytest.fixture
def serve(monkeypatch):
    monkeypatch.setattr("pooch.core.time", type("NoSleep", (), {"sleep": staticmethod(lambda _: None)}))
    servers = []

    def start(answer: bytes, endless: bytes = b"") -> Server:
        server = Server(answer, endless)
        thread = threading.Thread(target=server.serve)
        thread.start()
        servers.append((server, thread))
        return server

    yield start
    for server, thread in servers:
        server.socket.shutdown(socket.SHUT_RDWR)
        server.socket.close()
        thread.join()


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (OK + b"Content-Encoding: gzip\r\n\r\n" + gzip.compress(bytes(MEBIBYTE)), "is encoded as 'gzip', allowed is"),
        (OK + b"Content-Encoding: gzip, gzip, br\r\n\r\n" + bytes(9), "is encoded as 'gzip, gzip, br', allowed is"),
        (OK + b"Content-Length: 99999999999999\r\n\r\nshort", "IncompleteRead"),
        (b"HTTP/1.1 302 Found\r\nLocation: /some.bin\r\n\r\n", "Exceeded 30 redirects"),
        (b"HTTP/1.1 302 Found\r\nLocation: \xff\xfe\r\n\r\n", "can't decode byte 0xff"),
        (b"HTTP/1.1 302 Found\r\nLocation: file:///etc/passwd\r\n\r\n", "No connection adapters were found for 'file:"),
        (b"HTTP/1.1 302 Found\r\nLocation: http://[/\r\n\r\n", "Invalid IPv6 URL|Failed to parse"),
        (OK + b"X: " + b"x" * 70_000 + b"\r\n\r\n", r"no connection \(ConnectionError\)"),
        (b"rubbish\r\n\r\n", r"no connection \(ConnectionError\)"),
        (b"", r"no connection \(ConnectionError\)"),
    ],
    ids=[
        "encoded",
        "encoded thrice",
        "terabytes",
        "circle",
        "no UTF-8",
        "local file",
        "no address",
        "long header",
        "no HTTP",
        "nothing",
    ],
)
@pytest.mark.filterwarnings("ignore:.*unclosed <socket")  # requests drops one when it cannot read an address
def test_hostile_answer_is_one_line_and_leaves_nothing(serve, cache, tmp_path, answer, message):
    server = serve(answer)
    with memory_below(16 * MEBIBYTE), pytest.raises(DataNotFoundError, match=message) as caught:
        find(server.file)
    assert message_of(caught).startswith(f"set/some.bin is neither in GDLAYER_DATA={str(tmp_path / 'data')!r} nor in ")
    assert server.file.url in message_of(caught)
    gc.collect()
    assert server.requests >= 1
    assert [path for path in state(tmp_path) if path.is_file()] == []


@pytest.mark.parametrize("length", ["", "Content-Length: 9999999999999\r\n", "Content-Length: many\r\n"])
def test_endless_answer_is_cut_off_once(serve, tmp_path, monkeypatch, length):
    monkeypatch.setattr(files_module, "MAX_BYTES", MEBIBYTE)
    server = serve(OK + length.encode() + b"\r\n", endless=bytes(1 << 16))
    with memory_below(16 * MEBIBYTE), pytest.raises(DataNotFoundError) as caught:
        find(server.file)
    assert "was not downloaded: the answer has more than the 1048576 bytes allowed; " in message_of(caught)
    assert server.requests == 1
    assert [path for path in state(tmp_path) if path.is_file()] == []


@pytest.mark.parametrize("length", ["many", "-5", "9" * 5000])
def test_wrong_length_does_not_spoil_a_right_file(serve, cache, length):
    content = b"published bytes"
    server = serve(OK + f"Content-Length: {length}\r\n\r\n".encode() + content)
    file = replace(server.file, sha256=hashlib.sha256(content).hexdigest())
    assert find(file) == (cache / file.path, "download")
    assert (cache / file.path).read_bytes() == content


# --- IDX -----------------------------------------------------------------------------------------------------------


def idx_payload(shape: tuple[int, ...], content: bytes) -> bytes:
    return struct.pack(f">4B{len(shape)}I", 0, 0, 8, len(shape), *shape) + content


def put_idx(path: Path, payload: bytes) -> Path:
    path.write_bytes(gzip.compress(payload, mtime=0))
    return path


def test_idx_truncated_at_every_length_is_refused(tmp_path):
    payload = idx_payload((2, 3, 4), bytes(range(24)))
    path = put_idx(tmp_path / "a.gz", payload)
    good = path.read_bytes()
    for keep in range(len(good)):
        path.write_bytes(good[:keep])
        with pytest.raises(DataCorruptError, match="IDX magic ''" if keep == 0 else r"a\.gz: broken gzip stream: "):
            read_idx(path)
    for keep in range(len(payload)):
        with pytest.raises(DataCorruptError) as caught:
            read_idx(put_idx(path, payload[:keep]))
        cut = "IDX magic" if keep < 4 else "truncated in the header" if keep < 16 else f"found only {keep - 16}"
        assert message_of(caught).startswith(f"{path}: ")
        assert cut in message_of(caught)


def test_idx_with_any_bit_flipped_is_the_same_or_refused(tmp_path):
    path = put_idx(tmp_path / "a.gz", idx_payload((2, 3, 4), bytes(range(24))))
    array, same = read_idx(path), 0
    for bad in bit_flips(path.read_bytes()):
        path.write_bytes(bad)
        found, error = outcome(lambda: read_idx(path))
        assert error.startswith(f"{path}: ") or np.array_equal(found, array)
        same += not error
    assert 0 < same < 80  # time stamp, system and hints in the gzip header alone


@given(shape=st.lists(EXTREMES, max_size=40), content=st.binary(max_size=40))
@settings(max_examples=300)
def test_idx_header_is_believed_as_far_as_the_bytes_go(tmp_path_factory, shape, content):
    path = put_idx(tmp_path_factory.mktemp("idx") / "a.gz", idx_payload(tuple(shape), content))
    with memory_below(4 * MEBIBYTE):
        found, error = outcome(lambda: read_idx(path))
    assert error.startswith(f"{path}: ") or (found.shape, found.tobytes()) == (tuple(shape), content)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1,) * (MAX_DIMENSIONS + 1), "33 dimensions, allowed are 32"),
        ((2**32 - 1,) * 255, "255 dimensions, allowed are 32"),
        ((0, *[2**32 - 1] * 3), rf"is {(2**32 - 1) ** 3} bytes, allowed are {2**28}"),
        ((2**20, 2**20), rf"shape \(1048576, 1048576\) is {2**40} bytes, allowed are {2**28}"),
        ((2**28 + 1,), rf"is {2**28 + 1} bytes, allowed are {2**28}"),
    ],
)
def test_idx_that_claims_too_much_is_refused_before_it_is_read(tmp_path, shape, message):
    path = put_idx(tmp_path / "a.gz", idx_payload(shape, b"\0"))
    with memory_below(MEBIBYTE), pytest.raises(DataCorruptError, match=rf"a\.gz: .*{message}"):
        read_idx(path)


@pytest.mark.parametrize("shape", [(3,), (64 * MEBIBYTE,), ()])
def test_idx_bomb_unpacks_no_more_than_is_claimed_and_allowed(tmp_path, shape):
    path = put_idx(tmp_path / "a.gz", idx_payload(shape, bytes(64 * MEBIBYTE)))
    assert path.stat().st_size < 1e5
    with memory_below(4 * MEBIBYTE), pytest.raises(DataCorruptError, match=r"found more|allowed are 1048576"):
        read_idx(path, max_bytes=MEBIBYTE)


def test_write_idx_refuses_what_could_not_be_read(tmp_path):
    shape = (1,) * (MAX_DIMENSIONS + 1)
    try:
        array = np.zeros(shape, np.uint8)
    except ValueError:
        pytest.skip("this NumPy has no such arrays")
    with pytest.raises(ValueError, match="array must have at most 32 dimensions, got 33"):
        write_idx(tmp_path / "a.gz", array)
    assert not (tmp_path / "a.gz").exists()


# --- zip archives --------------------------------------------------------------------------------------------------

STORED, DEFLATED = zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED
SOME = bytes(range(40))


def zipped(*members: tuple[str | zipfile.ZipInfo, bytes], method: int = STORED) -> bytes:
    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of names that are there already
        with zipfile.ZipFile(stream, "w", method) as archive:
            for name, content in members:
                archive.writestr(name, content)
    return stream.getvalue()


def put(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def read_all(path: Path) -> dict[str, bytes]:
    with open_archive(path) as archive:
        return {name: read_member(archive, name) for name in archive.namelist()}


@pytest.mark.parametrize("method", [STORED, DEFLATED])
def test_zip_truncated_at_every_length_is_refused(tmp_path, method):
    good = zipped(("d/a.jpg", SOME), ("d/b.jpg", SOME[::-1]), method=method)
    path = tmp_path / "a.zip"
    for keep in range(len(good)):
        path.write_bytes(good[:keep])
        with pytest.raises(DataCorruptError) as caught:
            read_all(path)
        assert message_of(caught).startswith(f"{path} is not a whole zip archive: ")


@pytest.mark.parametrize("method", [STORED, DEFLATED])
def test_zip_with_any_bit_flipped_gives_the_same_bytes_or_is_refused(tmp_path, method):
    path = tmp_path / "a.zip"
    refused = 0
    for bad in bit_flips(zipped(("a.jpg", SOME), method=method)):
        path.write_bytes(bad)
        found, error = outcome(lambda: read_all(path))
        assert error.startswith(str(path)) or list(found.values()) == [SOME]
        refused += bool(error)
    assert refused > 500
    assert state(tmp_path) == {tmp_path / "data": None, path: path.read_bytes()}


@given(
    edits=st.lists(
        st.tuples(st.floats(0, 1, exclude_max=True), st.sampled_from("IQ"), EXTREMES), min_size=1, max_size=4
    )
)
@settings(max_examples=300)
def test_zip_with_hostile_sizes_and_offsets_is_read_within_bounds(tmp_path_factory, edits):
    content = bytearray(zipped(("a.jpg", SOME), ("b.jpg", SOME[::-1]), method=DEFLATED))
    for place, size, value in edits:
        start = int(place * (len(content) - 8))
        content[start : start + struct.calcsize(size)] = struct.pack(f"<{size}", value << 31 if size == "Q" else value)
    path = put(tmp_path_factory.mktemp("zip") / "a.zip", bytes(content))
    with memory_below(3 * pictures.MAX_BYTES):
        found, error = outcome(lambda: read_all(path))
    assert error.startswith(str(path)) or set(found.values()) <= {SOME, SOME[::-1]}


@pytest.mark.parametrize("offset", [2**62, 2**63 - 1, 2**64 - 1])
def test_zip_member_that_starts_beyond_every_disk(tmp_path, offset):
    good = zipped(("a.jpg", SOME))
    start, end = good.index(b"PK\1\2"), good.index(b"PK\5\6")
    extra = struct.pack("<HHQ", 1, 8, offset)
    entry = bytearray(good[start:end])
    entry[30:32], entry[42:46] = struct.pack("<H", len(extra)), b"\xff" * 4
    tail = bytearray(good[end:])
    tail[12:16] = struct.pack("<I", len(entry) + len(extra))
    path = put(tmp_path / "a.zip", good[:start] + entry + extra + tail)
    with pytest.raises(DataCorruptError, match=r"a\.zip(, member 'a\.jpg': | is not a whole zip archive: )."):
        read_all(path)


_part = st.sampled_from(["..", ".", "", "a", "A", "b.jpg", "C:", "c:x", "~", "...", ".. ", "nul", "\u2025", "\uff0e."])
_name = st.lists(st.tuples(_part, st.sampled_from(["/", "\\", "//"])), min_size=1, max_size=5).map(
    lambda parts: "".join(part + separator for part, separator in parts)
)


@given(name=_name)
@settings(max_examples=500)
def test_zip_name_stays_inside_on_every_system_or_is_refused(tmp_path_factory, name):
    path = put(tmp_path_factory.mktemp("zip") / "a.zip", zipped((name, SOME)))
    found, error = outcome(lambda: list(read_all(path)))
    if error:
        assert error == f"{path} has a member named {name!r}, which points outside of it"
        assert ".." in name or ":" in name or name[:1] in ("/", "\\")
    else:
        assert found == [name]
        assert f"{posixpath.normpath(posixpath.join('/root', name))}/".startswith("/root/")
        assert f"{ntpath.normpath(ntpath.join('R:/root', name))}\\".startswith("R:\\root\\")


def test_zip_with_two_members_of_one_name_is_refused(tmp_path):
    path = put(tmp_path / "a.zip", zipped(("a.jpg", SOME), ("b.jpg", SOME), ("a.jpg", SOME[::-1])))
    with pytest.raises(DataCorruptError) as caught:
        open_archive(path)
    assert message_of(caught) == f"{path} has two members named 'a.jpg'"


def test_zip_names_that_differ_in_case_are_different_members(tmp_path):
    path = put(tmp_path / "a.zip", zipped(("a.jpg", SOME), ("A.jpg", SOME[::-1])))
    assert read_all(path) == {"a.jpg": SOME, "A.jpg": SOME[::-1]}


def test_zip_link_is_never_followed(tmp_path):
    secret = put(tmp_path / "secret.png", b"secret")
    link = zipfile.ZipInfo("link.png")
    link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    path = put(tmp_path / "a.zip", zipped((link, str(secret).encode())))
    content = read_all(path)["link.png"]
    assert content == str(secret).encode()
    with pytest.raises(DataCorruptError, match=r"^link\.png \(\d+ bytes\) is not a whole PNG picture: nothing of"):
        decode(content, "link.png", "PNG")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.zip", "data", "secret.png"]


def declared(content: bytes, real: int, claimed: int) -> bytes:
    """The archive with another size than the real one in both of its headers."""
    assert content.count(struct.pack("<I", real)) == 2
    return content.replace(struct.pack("<I", real), struct.pack("<I", claimed))


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (DEFLATED, "Bad CRC-32"),
        (zipfile.ZIP_BZIP2, r"compression method 12, allowed are \(0, 8\)"),
        (zipfile.ZIP_LZMA, r"compression method 14, allowed are \(0, 8\)"),
    ],
)
def test_zip_bomb_that_claims_to_be_small_is_not_unpacked(tmp_path, method, message):
    size = 64 * MEBIBYTE
    path = put(tmp_path / "a.zip", declared(zipped(("a.jpg", bytes(size)), method=method), size, 100))
    assert path.stat().st_size < 1e5
    with (
        open_archive(path) as archive,
        memory_below(MEBIBYTE),
        pytest.raises(DataCorruptError, match=rf"a\.zip, member 'a\.jpg': {message}"),
    ):
        read_member(archive, "a.jpg")


@pytest.mark.parametrize("claimed", [len(SOME) + 1, pictures.MAX_BYTES])
@pytest.mark.parametrize("method", [STORED, DEFLATED])
def test_zip_member_shorter_than_it_claims_is_refused(tmp_path, method, claimed):
    content = zipped(("a.jpg", SOME), method=method)
    if method == STORED:  # its size compressed is the same number, and stays
        entry = content.index(b"PK\1\2")
        content = content[: entry + 24] + struct.pack("<I", claimed) + content[entry + 28 :]
    else:
        content = declared(content, len(SOME), claimed)
    path = put(tmp_path / "a.zip", content)
    with (
        memory_below(MEBIBYTE),
        pytest.raises(DataCorruptError, match=rf"member 'a\.jpg': 40 bytes when unpacked, {claimed} are declared"),
    ):
        read_all(path)


@pytest.mark.parametrize("claimed", [pictures.MAX_BYTES + 1, 2**32 - 2])
def test_zip_member_that_claims_too_much_is_refused_before_it_is_read(tmp_path, claimed):
    path = put(tmp_path / "a.zip", declared(zipped(("a.jpg", SOME), method=DEFLATED), len(SOME), claimed))
    with (
        memory_below(MEBIBYTE),
        pytest.raises(DataCorruptError, match=rf"{claimed} bytes when unpacked, allowed are {pictures.MAX_BYTES}"),
    ):
        read_all(path)


# --- pictures ------------------------------------------------------------------------------------------------------


def picture(kind: str = "PNG", mode: str = "RGB", size: tuple[int, int] = (24, 24), **options: object) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(stream, kind, **options)
    return stream.getvalue()


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_of(width: int, height: int, *rest: int, data: bytes = b"", before: bytes = b"") -> bytes:
    """A PNG of these numbers in its header, every checksum right."""
    header = struct.pack(">II5B", width, height, *(rest or (8, 2, 0, 0, 0)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + before + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def jpeg_of(width: int, height: int) -> bytes:
    """A JPEG that declares this size."""
    content = picture("JPEG")
    place = content.index(b"\xff\xc0") + 5
    return content[:place] + struct.pack(">HH", height, width) + content[place + 4 :]


def scans(count: int) -> bytes:
    """A progressive JPEG whose last scan is repeated, so that it has `count`."""
    content = picture("JPEG", progressive=True)
    last = content[content.rindex(b"\xff\xda") : -2]
    return content[:-2] + last * (count - content.count(b"\xff\xda")) + content[-2:]


@pytest.mark.parametrize("progressive", [False, True])
def test_jpeg_truncated_at_every_length_is_refused(progressive):
    good = picture("JPEG", progressive=progressive)
    for keep in range(len(good)):
        with pytest.raises(DataCorruptError) as caught:
            decode(good[:keep], "name", "JPEG")
        assert message_of(caught).startswith(f"name ({keep} bytes) is not a whole JPEG picture: ")


@pytest.mark.parametrize("limit", [Image.MAX_IMAGE_PIXELS, None], ids=["Pillow's limit", "no limit"])
@pytest.mark.parametrize(
    ("content", "kind", "message"),
    [
        (png_of(4096, 4097), "PNG", "4096 x 4097 pixels, allowed are 16777216"),
        (png_of(10_000, 10_000), "PNG", "10000 x 10000 pixels, allowed are 16777216"),  # where Pillow only warns
        (png_of(2**31 - 1, 2**31 - 1), "PNG", "decompression bomb|2147483647 x 2147483647 pixels, allowed are"),
        (png_of(2**32 - 1, 1), "PNG", "decompression bomb|4294967295 x 1 pixels, allowed are"),
        (jpeg_of(65_500, 65_500), "JPEG", "decompression bomb|65500 x 65500 pixels, allowed are"),
        (jpeg_of(10_000, 10_000), "JPEG", "10000 x 10000 pixels, allowed are 16777216"),
    ],
)
def test_picture_that_claims_too_many_pixels_is_refused_before_it_is_decoded(
    monkeypatch, limit, content, kind, message
):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with memory_below(MEBIBYTE), pytest.raises(DataCorruptError, match=message) as caught:
        decode(content, "name", kind)
    assert message_of(caught).startswith(f"name ({len(content)} bytes) is not a whole {kind} picture: ")


def test_png_of_more_data_than_pixels_is_unpacked_as_far_as_needed():
    content = png_of(8, 8, data=zlib.compress(bytes(64 * MEBIBYTE)))
    with memory_below(8 * MEBIBYTE):
        image = decode(content, "name", "PNG")
    assert image.size == (8, 8)


@pytest.mark.parametrize(("kind", "start"), [("zTXt", b"key\0\0"), ("iTXt", b"key\0\1\0\0\0"), ("iCCP", b"key\0\0")])
def test_png_with_a_bomb_beside_its_pixels_is_refused(kind, start):
    bomb = chunk(kind.encode(), start + zlib.compress(bytes(64 * MEBIBYTE)))
    content = png_of(8, 8, data=zlib.compress(bytes(200)), before=bomb)
    with (
        memory_below(8 * MEBIBYTE),
        pytest.raises(DataCorruptError, match="is not a whole PNG picture: Decompressed data too large"),
    ):
        decode(content, "name", "PNG")


def test_jpeg_of_more_scans_than_any_encoder_writes_is_refused():
    assert decode(scans(pictures.MAX_SCANS), "name", "JPEG").size == (24, 24)
    with pytest.raises(DataCorruptError, match="is not a whole JPEG picture: 101 scans, allowed are 100"):
        decode(scans(pictures.MAX_SCANS + 1), "name", "JPEG")


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
@pytest.mark.parametrize("other", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "ICO", "EPS", "PDF"])
def test_picture_of_another_kind_is_refused(kind, other):
    if kind == other:
        assert decode(picture(kind), "name.png", kind).size == (24, 24)
        return
    with pytest.raises(DataCorruptError, match=rf"is not a whole {kind} picture: nothing of that kind"):
        decode(picture(other), "name.png", kind)


@given(
    size=st.tuples(EXTREMES, EXTREMES),
    rest=st.tuples(*[st.sampled_from([0, 1, 2, 3, 4, 6, 8, 16, 255])] * 2, *[st.integers(0, 2)] * 3),
    data=st.binary(max_size=200),
)
@settings(max_examples=300)
def test_png_of_any_header_is_a_picture_or_refused(size, rest, data):
    content = png_of(*size, *rest, data=zlib.compress(data))
    with memory_below(128 * MEBIBYTE):
        image, error = outcome(lambda: decode(content, "name", "PNG"))
    if error:
        assert error.startswith(f"name ({len(content)} bytes) is not a whole PNG picture: ")
    else:
        assert image.size == size
        assert size[0] * size[1] <= pictures.MAX_PIXELS


# --- whole data sets -----------------------------------------------------------------------------------------------

SIDE = 24
MASK = np.random.default_rng(1).random((SIDE, SIDE)) < 0.3


def mask_png() -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.uint8(255) * MASK).save(stream, "PNG")
    return stream.getvalue()


def nuclei_members() -> dict[str, bytes]:
    names = ("01_1", "01_2", "02_1")
    return {f"T/{kind}_{name[:2]}/{name}.png": make() for name in names for kind, make in KINDS.items()}


def photo_members() -> dict[str, bytes]:
    ids = (0, 1, 8750, 10_000)
    return {f"PetImages/{animal}/{i}.jpg": picture("JPEG") for i in ids for animal in ("Cat", "Dog")}


KINDS: dict[str, Callable[[], bytes]] = {"Slide": picture, "GT": mask_png}
SETS = {"tnbc": (nuclei, nuclei_members), "cats-dogs": (cats_dogs, photo_members)}


def load(name: str, root: Path, archive: bytes) -> nuclei.NucleusSet | cats_dogs.PhotoSet:
    """Load an archive as if it were the published one."""
    sha256 = hashlib.sha256(archive).hexdigest()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GDLAYER_DATA", str(root / "data"))
        patch.setenv("GDLAYER_CACHE", str(root / "cache"))
        if name == "tnbc":
            patch.setattr(nuclei, "SIZE", SIDE)
            patch.setattr(nuclei, "TNBC_FILES", (replace(nuclei.TNBC_FILES[0], sha256=sha256),))
            put(root / "data" / nuclei.TNBC_FILES[0].path, archive)
            return nuclei.load(name)
        patch.setattr(cats_dogs, "FULL_FILE", replace(cats_dogs.FULL_FILE, sha256=sha256))
        put(root / "data" / cats_dogs.FULL_FILE.path, archive)
        return cats_dogs.load(name, 32)


def check_written(root: Path, data: nuclei.NucleusSet | cats_dogs.PhotoSet | None) -> None:
    """The archive that was put there, and at most one whole file of decoded pictures."""
    written = [path for path in state(root) if path.is_file() and path.parent.parent != root / "data"]
    if data is None or data.name == "tnbc":
        assert written == []
    else:
        [path] = written
        assert path.parent == root / "cache" / "decoded"
        with path.open("rb") as stream:
            stream.seek(32)  # behind the checksum
            stored = np.load(stream)
            assert len(stored["images"]) == len(stored["labels"])


@given(data=st.data())
@settings(max_examples=150)
@pytest.mark.parametrize("name", list(SETS))
def test_data_set_of_damaged_members_is_whole_or_refused(tmp_path_factory, name, data):
    root = tmp_path_factory.mktemp("set")
    members = SETS[name][1]()
    for member in data.draw(st.lists(st.sampled_from(sorted(members)), min_size=1, max_size=3, unique=True)):
        content = members.pop(member)
        change = data.draw(st.sampled_from(["gone", "cut", "flipped", "swapped", "case", "other", "moved", "alpha"]))
        if change == "cut":
            members[member] = content[: data.draw(st.integers(0, len(content) - 1))]
        elif change == "flipped":
            place = data.draw(st.integers(0, len(content) - 1))
            members[member] = (
                content[:place] + bytes([content[place] ^ data.draw(st.integers(1, 255))]) + content[place + 1 :]
            )
        elif change == "swapped":
            members[member] = members[data.draw(st.sampled_from(sorted(members)))]
        elif change == "case":
            members[member.swapcase()] = content
        elif change == "other":
            mode = data.draw(st.sampled_from(["1", "L", "P", "LA", "RGBA", "CMYK", "I;16", "F"]))
            kind = "TIFF" if mode in ("CMYK", "F") else "PNG"
            size = data.draw(st.sampled_from([(SIDE, SIDE), (SIDE, 23), (1, 1)]))
            members[member] = picture(kind, mode, size)
        elif change == "moved":
            members[f"{member.partition('/')[0]}/{data.draw(st.sampled_from(['Slide_99/x.png', 'Cat/99999.jpg']))}"] = (
                content
            )
        elif change == "alpha":
            members[member] = picture("PNG", "RGBA")
    archive = zipped(*members.items(), method=data.draw(st.sampled_from([STORED, DEFLATED])))
    found, error = outcome(lambda: load(name, root, archive))
    check_written(root, found)
    assert error.startswith(str(root / "data")) == (found is None)
    if isinstance(found, nuclei.NucleusSet):
        assert found.images.shape == (len(found.names), SIDE, SIDE, 3)
        assert found.masks.shape == (len(found.names), SIDE, SIDE)
        assert 0 < len(found.names) == len(found.groups) <= 3
    elif isinstance(found, cats_dogs.PhotoSet):
        for split in cats_dogs.SPLITS:
            images, labels = getattr(found, f"{split}_images"), getattr(found, f"{split}_labels")
            assert images.shape == (len(labels), 32, 32, 3)
            assert np.bincount(labels, minlength=2).tolist() == [len(labels) // 2] * 2
        used = sum(len(getattr(found, f"{split}_labels")) for split in cats_dogs.SPLITS)
        assert used + len(found.skipped) <= len(members)


@pytest.mark.parametrize("name", list(SETS))
@pytest.mark.parametrize("hostile", ["../evil.png", "/evil.png", "C:\\evil.png", "twice"])
def test_data_set_with_a_hostile_member_is_refused_and_writes_nothing(tmp_path, name, hostile):
    members = SETS[name][1]()
    first = next(iter(members))
    archive = zipped(*members.items(), (first if hostile == "twice" else hostile, b"evil"))
    with pytest.raises(DataCorruptError) as caught:
        load(name, tmp_path, archive)
    expected = f"two members named {first!r}" if hostile == "twice" else f"a member named {hostile!r}, which points"
    assert expected in message_of(caught)
    check_written(tmp_path, None)


@pytest.mark.parametrize("other", ["t/Slide_01/01_1.png", "other/Slide_01/01_1.png"])
def test_picture_that_an_archive_has_twice_is_refused(tmp_path, other):
    members = nuclei_members()
    archive = zipped(*members.items(), (other, picture()))
    with pytest.raises(DataCorruptError) as caught:
        load("tnbc", tmp_path, archive)
    assert message_of(caught).endswith(f" has one picture twice, 'T/Slide_01/01_1.png' and {other!r}")


@pytest.mark.parametrize("name", ["PetImages/Cat/00.jpg", "PetImages/Cat/٣.jpg", "PetImages/cat/2.jpg"])
def test_photograph_under_a_name_that_no_published_one_has_is_left_out(tmp_path, name):
    archive = zipped(*photo_members().items(), (name, b"broken, so it would be listed as skipped"))
    found = load("cats-dogs", tmp_path, archive)
    assert isinstance(found, cats_dogs.PhotoSet)
    assert len(found.train_labels) == 4
    assert found.skipped == ()


def test_pack_with_an_endless_picture_is_refused(tmp_path, monkeypatch):
    folder = tmp_path / "data" / "tnbc-derived"
    put(folder / "GT_01" / "01_1.png", mask_png())
    image = put(folder / "Slide_01" / "01_1.png", b"")
    image.unlink()
    image.symlink_to("/dev/zero")
    head = "image,mask,slide,n_components_4conn,foreground_fraction"
    put(folder / "manifest.csv", f"{head}\nSlide_01/01_1.png,GT_01/01_1.png,1,1,0.2\n".encode())
    sha256 = hashlib.sha256((folder / "manifest.csv").read_bytes()).hexdigest()
    monkeypatch.setitem(nuclei.MANIFESTS, "tnbc-derived", replace(nuclei.MANIFESTS["tnbc-derived"], sha256=sha256))
    with memory_below(4 * pictures.MAX_BYTES), pytest.raises(DataCorruptError) as caught:
        nuclei.load("tnbc-derived")
    assert message_of(caught) == f"{image} has more than the {pictures.MAX_BYTES} bytes allowed"


# --- the cache -----------------------------------------------------------------------------------------------------


class Evil:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return (Path.write_text, (self.path, "evil"))


def test_cache_runs_nothing_even_with_the_right_checksum(cache, tmp_path):
    evil = tmp_path / "evil"
    np.savez(tmp_path / "evil.npz", a=np.array([Evil(evil)], object))
    content = (tmp_path / "evil.npz").read_bytes()
    put(cache / "some.arrays", hashlib.sha256(b"some.arrays\0" + content).digest() + content)
    with pytest.raises(ValueError, match="Object arrays cannot be loaded when allow_pickle=False"):
        cached("some.arrays", lambda: pytest.fail("made anew"))
    assert not evil.exists()


# --- what is never called ------------------------------------------------------------------------------------------


def unsafe_calls(source: str) -> list[str]:
    """Calls that could run code out of a file, or write where an archive says; torch.load counts unless restricted."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module in ("torch", "torch.serialization", "pickle", "numpy"):
            found += [f"from {node.module} import {name.name}" for name in node.names if name.name in ("load", "loads")]
        if not isinstance(node, ast.Call):
            continue
        call = ast.unparse(node.func)
        options = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        torch_load = call.split(".")[0] == "torch" and call.split(".")[-1] == "load"
        if (
            (torch_load and options.get("weights_only") != "True")
            or (call in ("np.load", "numpy.load") and options.get("allow_pickle", "False") != "False")
            or call in ("pickle.load", "pickle.loads", "pickle.Unpickler")
            or call.split(".")[-1] in ("extract", "extractall", "unpack_archive")
        ):
            found.append(ast.unparse(node))
    return found


@pytest.mark.parametrize(
    "source",
    [
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "torch.load(path, weights_only=flag)",
        "torch.load(path, **options)",
        "torch.serialization.load(path)",
        "torch.jit.load(path)",
        "from torch import load",
        "np.load(path, allow_pickle=True)",
        "pickle.load(stream)",
        "archive.extractall(folder)",
    ],
)
def test_unsafe_call_is_seen(source):
    assert unsafe_calls(source) == [source]


def test_every_torch_load_takes_weights_only():
    sources = {
        path: path.read_text(encoding="utf-8")
        for folder in ("gdlayer", "tools", "workflow")
        for path in (REPOSITORY / folder).rglob("*.py")
    }
    assert sum(source.count("torch.load(") for source in sources.values()) >= 2
    assert {path: calls for path, source in sources.items() if (calls := unsafe_calls(source))} == {}
