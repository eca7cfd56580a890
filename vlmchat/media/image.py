"""File, bytes or pixels -> a checked :class:`~vlmchat.conversation.Picture` -> an RGB image.

A picture is recognised by its content, never by its extension. It is decoded whole once when it
enters (:func:`read_picture`), so a truncated or hostile file is refused before anything is sent.
"""

from __future__ import annotations

import hashlib
import io
import warnings
from pathlib import Path

from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from vlmchat.conversation import Picture
from vlmchat.errors import ImageError

MAX_PIXELS = 100_000_000
"""Largest picture that is decoded: 100 megapixels is 300 MB as RGB, above any camera of today and
far below what a decompression bomb unfolds to."""
MAX_BYTES = 200_000_000
"""Largest encoded file that is read."""
_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF")
"""Formats Pillow may try. Left out on purpose: EPS (runs Ghostscript), PSD and the rarely fuzzed ones."""
_TURNED = {5, 6, 7, 8}
"""EXIF orientations that exchange width and height (TIFF 6.0, tag 274)."""


def read_picture(source: Path | bytes, name: str | None = None) -> Picture:
    """Return the picture in ``source``, checked, measured and hashed; the bytes stay in memory.

    Args:
        source: a file, or the encoded bytes themselves.
        name: what to call it; the file's own name when not given.

    Raises:
        ImageError: no such file, not a picture, truncated, or larger than :data:`MAX_PIXELS`.
    """
    called = name or (source.name if isinstance(source, Path) else "picture")
    data = _read_file(source) if isinstance(source, Path) else source
    image = _decode(data, called)
    turned = image.getexif().get(ExifTags.Base.Orientation, 1) in _TURNED
    width, height = (image.height, image.width) if turned else image.size
    return Picture(
        digest=hashlib.sha256(data).hexdigest(),
        name=called,
        media_type=Image.MIME.get(image.format or "", "application/octet-stream"),
        width=width,
        height=height,
        data=data,
    )


def load_rgb(picture: Picture) -> Image.Image:
    """Return ``picture`` as an upright RGB image, alpha dropped without blending.

    All three families convert with PIL's ``convert("RGB")``, which drops alpha (facts/ovis2.md §6,
    facts/cogvlm2.md §5); the first frame of an animation is taken.

    Raises:
        ImageError: the stored copy is gone or cannot be decoded.
    """
    try:
        data = picture.read()
    except OSError as problem:
        raise ImageError(
            f"The picture {picture.name} is no longer on disk ({problem.strerror or problem}).", "Attach it again."
        ) from problem
    return ImageOps.exif_transpose(_decode(data, picture.name)).convert("RGB")


def _read_file(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise ImageError(
                f"{path.name} has {size:,} bytes; pictures may have {MAX_BYTES:,}.", "Save a smaller copy of it."
            )
        return path.read_bytes()
    except IsADirectoryError as problem:
        raise ImageError(f"{path} is a folder, not a picture.", "Name a file in it.") from problem
    except FileNotFoundError as problem:
        raise ImageError(f"There is no file {path}.", "Check the path; quote it if it has blanks.") from problem
    except OSError as problem:
        raise ImageError(f"{path} cannot be read: {problem.strerror}.", "Check the file's permissions.") from problem


def _decode(data: bytes, name: str) -> Image.Image:
    try:
        with warnings.catch_warnings():
            # Pillow warns from 89 megapixels on; our own limit below decides.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(data), formats=_FORMATS)
            if image.width * image.height > MAX_PIXELS:
                raise ImageError(
                    f"{name} has {image.width:,} x {image.height:,} pixels, more than {MAX_PIXELS:,}.",
                    "Scale it down first.",
                )
            image.load()
    except UnidentifiedImageError as problem:
        raise ImageError(
            f"{name} is not a picture this program can read.", f"It reads {', '.join(_FORMATS)}, known by content."
        ) from problem
    except Image.DecompressionBombError as problem:
        raise ImageError(f"{name} unfolds to far more pixels than a picture has.", "Scale it down first.") from problem
    except (OSError, SyntaxError, ValueError, EOFError) as problem:
        # Pillow reports broken data under these four types (its decoders raise SyntaxError for PNG).
        raise ImageError(f"{name} is damaged or cut short.", "Copy or save it again.") from problem
    return image
