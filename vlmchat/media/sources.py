"""What a user may name as a picture -> a :class:`~vlmchat.conversation.Picture`: the one function for all doors."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from urllib.parse import unquote

from vlmchat.conversation import Picture
from vlmchat.errors import ImageError
from vlmchat.media.crop import cropped, split_crop
from vlmchat.media.image import read_picture
from vlmchat.media.web import Told, WebRules, fetch, is_web
from vlmchat.paths import user_path
from vlmchat.plaintext import one_line


def picture_from(
    source: str, rules: WebRules | None = None, told: Told | None = None, stopped: Callable[[], bool] | None = None
) -> Picture:
    """Read the picture that a user named: a path, an ``http(s)://`` or a ``data:`` URL, a box of it or all.

    A file whose name really ends like a box (``a.png[1,2,3,4]``) is that file.

    Args:
        source: as typed; a box stands behind it as in :mod:`vlmchat.media.crop`.
        rules: what may be fetched; None: public addresses.
        told: hears how far a fetch is.
        stopped: asked during a fetch; True ends it.

    Raises:
        ImageError: no such file, no picture, a box outside it, or a URL that is refused.
        DownloadError: the network or the server failed.
    """
    if not source or "\0" in source:
        raise ImageError(f"{source!r} is no path.", "Name a picture file.")
    plain, crop = split_crop(source)
    if crop is None or _is_file(source):
        return _whole(source, rules or WebRules(), told, stopped)
    return cropped(_whole(plain, rules or WebRules(), told, stopped), crop)


def _whole(source: str, rules: WebRules, told: Told | None, stopped: Callable[[], bool] | None) -> Picture:
    if is_web(source):
        return read_picture(fetch(source, rules, told, stopped), _name_of(source))
    if source[:5].lower() == "data:":
        return read_picture(_data_url(source), "data")
    return read_picture(user_path(source))


def _name_of(url: str) -> str:
    """Return the last part of a URL's path, else its host."""
    host, _, path = url.partition("://")[2].partition("?")[0].partition("#")[0].partition("/")
    return one_line(unquote(path.rstrip("/").rpartition("/")[2])) or one_line(host.rpartition("@")[2])


def _data_url(source: str) -> bytes:
    head, comma, body = source.partition(",")
    if not comma or not head.lower().endswith(";base64"):
        raise ImageError("A data: URL has no ;base64, part.", "Write it as data:image/png;base64,….")
    try:
        return base64.b64decode(body, validate=True)
    except (binascii.Error, ValueError) as problem:
        raise ImageError("A data: URL holds no valid base64.", "Encode the picture again.") from problem


def _is_file(source: str) -> bool:
    try:
        return user_path(source).is_file()
    except OSError:
        return False
