"""Pictures out of files that may be damaged or hostile: whole and of a sane size, or an error that names them.

Archives are read member by member into memory; nothing is ever extracted to disk.
"""

import io
import warnings
import zipfile
import zlib
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING

from gdlayer._plumbing.extras import MissingExtraError, extra
from gdlayer.datasets.files import DataCorruptError, DataError

if TYPE_CHECKING:
    from PIL import Image

MAX_BYTES = 1 << 24
MAX_PIXELS = 1 << 24
MAX_SCANS = 100  # of a JPEG: a scan of 33 bytes can cost as much as all pixels

_PNG_END = b"IEND\xaeB`\x82"
_JPEG_SCAN = b"\xff\xda"
_BOUNDED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # zipfile unpacks the others without a bound
_BROKEN_ZIP = (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, ValueError)


def import_pillow():
    """Pillow, which only the experiments need."""
    try:
        with extra("experiments"):
            import PIL.features
            import PIL.Image
    except MissingExtraError as error:
        raise DataError(str(error)) from error
    return PIL


def decode(content: bytes, name: str, kind: str) -> "Image.Image":
    """Decode a picture completely.

    Parameters
    ----------
    content : bytes
        The file.
    name : str
        What errors call it.
    kind : {"JPEG", "PNG"}
        The only format accepted.

    Returns
    -------
    PIL.Image.Image
        Decoded, in the mode it has.

    Raises
    ------
    DataCorruptError
        Not of this format, truncated, broken, or above `MAX_PIXELS` or `MAX_SCANS`.
    """
    pillow = import_pillow()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a broken EXIF block is no matter; size is checked below
            image = pillow.Image.open(io.BytesIO(content), formats=(kind,))
            if image.width * image.height > MAX_PIXELS:
                raise ValueError(f"{image.width} x {image.height} pixels, allowed are {MAX_PIXELS}")
            if kind == "JPEG" and (scans := content.count(_JPEG_SCAN)) > MAX_SCANS:
                raise ValueError(f"{scans} scans, allowed are {MAX_SCANS}")
            image.load()
            if kind == "PNG" and _PNG_END not in content:  # Pillow is content once it has all pixels
                raise ValueError("truncated, its end is missing")
    except Exception as error:  # Pillow's decoders raise whatever they stumble over
        reason = "nothing of that kind" if isinstance(error, pillow.UnidentifiedImageError) else error
        raise DataCorruptError(f"{name} ({len(content)} bytes) is not a whole {kind} picture: {reason}") from error
    return image


def open_archive(path: Path) -> zipfile.ZipFile:
    """Open a zip archive whose members all have harmless relative names, each its own.

    Raises
    ------
    DataCorruptError
        Not a zip archive, truncated, with a member that points outside or with two of the same name; the archive and
        the member are named.
    """
    try:
        archive = zipfile.ZipFile(path)
    except _BROKEN_ZIP as error:
        raise DataCorruptError(f"{path} is not a whole zip archive: {error}") from error
    names = set()
    for name in archive.namelist():
        if PurePosixPath(name).is_absolute() or PureWindowsPath(name).anchor or ".." in PureWindowsPath(name).parts:
            archive.close()
            raise DataCorruptError(f"{path} has a member named {name!r}, which points outside of it")
        if name in names:
            archive.close()
            raise DataCorruptError(f"{path} has two members named {name!r}")
        names.add(name)
    return archive


def read_member(archive: zipfile.ZipFile, name: str) -> bytes:
    """Read one member into memory, never unpacking more than it declares.

    Raises
    ------
    DataCorruptError
        It is absent, broken, encrypted, compressed in another way than deflate, of another size than it declares, or
        declares more than `MAX_BYTES`; the archive and the member are named.
    """
    try:
        member = archive.getinfo(name)
        if member.file_size > MAX_BYTES:
            raise ValueError(f"{member.file_size} bytes when unpacked, allowed are {MAX_BYTES}")
        if member.compress_type not in _BOUNDED:
            raise ValueError(f"compression method {member.compress_type}, allowed are {_BOUNDED}")
        with archive.open(member) as stream:
            content = stream.read(member.file_size + 1)  # read() would unpack all there is, whatever is declared
        if len(content) < member.file_size:
            raise ValueError(f"{len(content)} bytes when unpacked, {member.file_size} are declared")
        return content
    except KeyError as error:
        raise DataCorruptError(f"{archive.filename} has no member {name!r}") from error
    except _BROKEN_ZIP as error:
        raise DataCorruptError(f"{archive.filename}, member {name!r}: {error}") from error
