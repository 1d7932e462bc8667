"""The one way to find a data file: `$GDLAYER_DATA`, then the cache, then a download into the cache.

Every file is checked against its published SHA256, one against its MD5, wherever it is found. Directories in
`$GDLAYER_DATA` are only ever read. Three more variables change the search:

- `GDLAYER_CACHE`: the cache directory (default `$XDG_CACHE_HOME/gdlayer`, or `~/.cache/gdlayer`);
- `GDLAYER_OFFLINE=1`: never download.
"""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from gdlayer._plumbing.extras import MissingExtraError, extra

CONNECT_SECONDS = 3  # short: without a network the caller shall hear about it at once
READ_SECONDS = 30
RETRIES = 2
MAX_BYTES = 1 << 30  # the largest published file has 0.8 GB

_EMBEDDED = Path(__file__).parent


class DataError(RuntimeError):
    """Data cannot be used; base of the two errors below."""


class DataNotFoundError(DataError):
    """A file is neither on this machine nor to be had from its published place."""


class DataCorruptError(DataError, ValueError):
    """A file is there, but its content is not what it should be."""


@dataclass(frozen=True)
class DataFile:
    """A published file.

    Parameters
    ----------
    path : str
        Canonical relative path, such as `"fashion-mnist/train-images-idx3-ubyte.gz"`; the same below every
        directory of `$GDLAYER_DATA` and below the cache.
    url : str or None
        Where it is published; None if it is not, and must be laid into `$GDLAYER_DATA` or the cache by hand.
    sha256 : str
        SHA256 of its bytes, 64 lower-case hexadecimal digits.
    md5 : str, optional
        MD5 of a file whose SHA256 is published nowhere, then "". Who reads it must check what it holds.
    """

    path: str
    url: str | None
    sha256: str
    md5: str = ""

    @property
    def digest(self) -> tuple[str, str]:
        """How it is checked: the name of the algorithm, and the hexadecimal digits."""
        return ("sha256", self.sha256) if self.sha256 else ("md5", self.md5)


def locate(file: DataFile) -> tuple[Path, str] | None:
    """Look for a file on this machine, without opening it.

    Parameters
    ----------
    file : DataFile
        The file to look for.

    Returns
    -------
    tuple of (Path, str) or None
        The first place where it lies and `"GDLAYER_DATA"` or `"cache"`; None if it is nowhere.

    Raises
    ------
    DataError
        `$GDLAYER_DATA` names something that is not a directory.
    """
    places = [(root, "GDLAYER_DATA") for root in _data_directories()]
    for root, source in [*places, (cache_directory(), "cache")]:
        if os.path.lexists(root / file.path):
            return root / file.path, source
    return None


def find(file: DataFile) -> tuple[Path, str]:
    """Find a published file, downloading it when it is nowhere on this machine.

    Parameters
    ----------
    file : DataFile
        The file to look for.

    Returns
    -------
    path : Path
        A file with the right digest.
    source : str
        `"GDLAYER_DATA"`, `"cache"` or `"download"`.

    Raises
    ------
    DataCorruptError
        The file found first, or the one downloaded, has another digest. It is left as it is.
    DataNotFoundError
        The file is nowhere and cannot be downloaded.
    DataError
        `$GDLAYER_DATA` names something that is not a directory, or a file cannot be read.
    """
    located = locate(file)
    if located is None:
        return _download(file), "download"
    path, source = located
    _verify(path, file, str(path), f"remove it or replace it by {file.url or 'an undamaged copy'}")
    return path, source


def find_embedded(file: DataFile) -> Path:
    """Find a file that is part of the package.

    Parameters
    ----------
    file : DataFile
        Its path is relative to `gdlayer/datasets`.

    Returns
    -------
    Path
        A file with the right digest.

    Raises
    ------
    DataNotFoundError
        It is absent: the package is not whole.
    DataCorruptError
        It has another digest.
    """
    found = _EMBEDDED / file.path
    if not found.exists():
        raise DataNotFoundError(f"{found} is missing, a file of gdlayer itself; install gdlayer anew")
    _verify(found, file, str(found), "install gdlayer anew")
    return found


def cache_directory() -> Path:
    """The directory that downloads and decoded pictures are kept in; it need not exist yet."""
    named = os.environ.get("GDLAYER_CACHE")
    return Path(named or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "gdlayer").expanduser()


def _data_directories() -> list[Path]:
    names = [name for name in os.environ.get("GDLAYER_DATA", "").split(os.pathsep) if name]
    for name in names:
        if not os.path.isdir(os.path.expanduser(name)):
            raise DataError(f"GDLAYER_DATA names {name!r}, which is not a directory; create it or unset it")
    return [Path(name).expanduser() for name in names]


def _verify(path: Path, file: DataFile, name: str, remedy: str) -> None:
    algorithm, expected = file.digest
    try:
        if not path.is_file():  # reading a pipe or a device may never end
            raise DataError(f"{name} cannot be read: it is no regular file")
        with path.open("rb") as stream:
            found = hashlib.file_digest(stream, algorithm).hexdigest()
            size = stream.tell()
    except OSError as error:
        raise DataError(f"{name} cannot be read: {error.strerror}") from error
    if found != expected:
        raise DataCorruptError(
            f"{name} is not the published file: {algorithm.upper()} {found} ({size} bytes), expected {expected}; "
            f"{remedy}"
        )


def _download(file: DataFile) -> Path:
    if file.url is None:
        raise DataNotFoundError(
            f"{file.path} is {_searched()}, and is published nowhere to be downloaded from; "
            "let GDLAYER_DATA name the directory that holds it, or use the original data set"
        )
    if os.environ.get("GDLAYER_OFFLINE", "") not in ("", "0"):
        raise _not_found(file, f"GDLAYER_OFFLINE={os.environ['GDLAYER_OFFLINE']} forbids it")
    try:
        with extra("experiments"):
            import pooch
            import requests
            from tqdm import tqdm
    except MissingExtraError as error:
        raise _not_found(file, str(error)) from error

    def attempt(url: str, output: str, _: object) -> None:  # called by position, whatever pooch types say
        try:
            with (
                requests.get(
                    url,
                    headers={"Accept-Encoding": "identity"},
                    stream=True,
                    timeout=(CONNECT_SECONDS, READ_SECONDS),
                ) as response,
                open(output, "wb") as stream,
            ):
                response.raise_for_status()
                encoding = response.headers.get("Content-Encoding", "identity")
                if encoding != "identity":  # requests would unpack it, however much that gives
                    raise _not_found(file, f"the answer is encoded as {encoding!r}, allowed is 'identity'")
                size = response.raw.length_remaining  # None if the header is absent or no number
                with tqdm(desc=file.path, total=size, unit="B", unit_scale=True, disable=None) as progress:
                    for chunk in response.iter_content(1 << 16):
                        progress.update(stream.write(chunk))
                        if stream.tell() > MAX_BYTES:
                            raise _not_found(file, f"the answer has more than the {MAX_BYTES} bytes allowed")
        except requests.ConnectionError as error:  # pooch would try this again, and then wait as long again
            raise _not_found(file, f"no connection ({type(error).__name__})") from error
        _verify(Path(output), file, f"the download of {url}", "it was not kept; get the file elsewhere")

    pooch.get_logger().setLevel("WARNING")
    store = pooch.create(
        cache_directory(),
        base_url="",
        registry={file.path: ":".join(file.digest)},
        urls={file.path: file.url},
        retry_if_failed=RETRIES,
    )
    try:
        return Path(store.fetch(file.path, downloader=attempt))  # pyright: ignore[reportArgumentType]
    except DataError:
        raise
    except (requests.RequestException, ValueError) as error:  # ValueError: an answer that makes no sense
        raise _not_found(file, str(error)) from error
    except OSError as error:
        problem = f"the cache cannot be written ({error.strerror or error}), GDLAYER_CACHE can name another"
        raise _not_found(file, problem) from error


def _not_found(file: DataFile, reason: str) -> DataNotFoundError:
    return DataNotFoundError(
        f"{file.path} is {_searched()}, and {file.url} was not downloaded: {reason}; "
        "download it elsewhere and let GDLAYER_DATA name the directory that holds it"
    )


def _searched() -> str:
    return f"neither in GDLAYER_DATA={os.environ.get('GDLAYER_DATA', '')!r} nor in the cache {cache_directory()}"
