"""Pictures: known by content, upright, measured, hashed; damaged and hostile ones refused in a sentence."""

from __future__ import annotations

import hashlib
import io
import zlib
from pathlib import Path

import pytest
from PIL import Image

from vlmchat.errors import ImageError
from vlmchat.media import image as media
from vlmchat.media.image import load_rgb, read_picture


def encoded(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


@pytest.mark.parametrize(
    ("form", "media_type"),
    [("PNG", "image/png"), ("JPEG", "image/jpeg"), ("WEBP", "image/webp"), ("GIF", "image/gif"),
     ("BMP", "image/bmp"), ("TIFF", "image/tiff")],
)  # fmt: skip
def test_known_by_content_not_by_name(tmp_path: Path, form: str, media_type: str) -> None:
    data = encoded(Image.new("RGB", (30, 20), "teal"), form)
    (tmp_path / "scan.TXT").write_bytes(data)
    picture = read_picture(tmp_path / "scan.TXT")
    assert (picture.media_type, picture.width, picture.height, picture.name) == (media_type, 30, 20, "scan.TXT")
    assert picture.digest == hashlib.sha256(data).hexdigest()
    assert load_rgb(picture).size == (30, 20)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation: int) -> None:
    upright = Image.new("RGB", (40, 24), "white")
    upright.paste("black", (0, 0, 8, 8))
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }  # fmt: skip
    stored = upright.transpose(undo[orientation]) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = read_picture(encoded(stored, exif=exif), "photo.png")
    assert (picture.width, picture.height) == (40, 24)
    shown = load_rgb(picture)
    assert shown.size == (40, 24)
    assert shown.getpixel((3, 3)) == (0, 0, 0)
    assert shown.getpixel((36, 20)) == (255, 255, 255)


def test_alpha_is_dropped_not_blended() -> None:
    clear_red = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    assert load_rgb(read_picture(encoded(clear_red))).getpixel((0, 0)) == (255, 0, 0)


@pytest.mark.parametrize("mode", ["L", "P", "1", "LA", "I;16", "CMYK"])
def test_every_mode_becomes_rgb(mode: str) -> None:
    picture = read_picture(encoded(Image.new(mode, (9, 9)), "JPEG" if mode == "CMYK" else "PNG"))
    assert load_rgb(picture).mode == "RGB"


def test_every_cut_of_a_file_is_refused_or_decodes() -> None:
    """No truncation crashes: each is refused in a sentence; the last 24 bytes of a PNG carry no pixels."""
    data = encoded(Image.effect_noise((20, 20), 50))
    for length in range(0, len(data) - 24, 7):
        with pytest.raises(ImageError, match=r"cut short|not a picture"):
            read_picture(data[:length], "half.png")


@pytest.mark.parametrize("form", ["JPEG", "WEBP", "GIF", "TIFF", "BMP"])
def test_half_a_file_is_refused(form: str) -> None:
    data = encoded(Image.effect_noise((60, 60), 50).convert("RGB"), form)
    with pytest.raises(ImageError, match=r"cut short|not a picture"):
        read_picture(data[: len(data) // 2], "half")


def bomb(width: int, height: int) -> bytes:
    """Return a PNG that claims a size far beyond its few bytes."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")

    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, 2, 0, 0, 0])
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 99)) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("size", [(60_000, 60_000), (12_000, 9_000), (2_000_000, 90)])
def test_decompression_bombs_are_refused_before_decoding(size: tuple[int, int]) -> None:
    with pytest.raises(ImageError, match="pixels"):
        read_picture(bomb(*size), "bomb.png")


@pytest.mark.parametrize("data", [b"", b"hello", b"%!PS-Adobe-3.0 EPSF-3.0\n", b"<svg/>", b"\x89PNG\r\n\x1a\n"])
def test_what_is_no_picture_is_refused(data: bytes) -> None:
    with pytest.raises(ImageError) as refused:
        read_picture(data, "x")
    assert refused.value.hint


def test_paths_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ImageError, match="no file"):
        read_picture(tmp_path / "none.png")
    with pytest.raises(ImageError, match="folder"):
        read_picture(tmp_path)
    (tmp_path / "big.png").write_bytes(b"x" * 100)
    monkeypatch.setattr(media, "MAX_BYTES", 50)
    with pytest.raises(ImageError, match="100 bytes"):
        read_picture(tmp_path / "big.png")


def test_a_stored_copy_that_is_gone_is_said(tmp_path: Path) -> None:
    from dataclasses import replace

    picture = replace(read_picture(encoded(Image.new("RGB", (2, 2)))), data=None, path=tmp_path / "gone")
    with pytest.raises(ImageError, match="no longer on disk"):
        load_rgb(picture)
