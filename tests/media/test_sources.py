"""What may be named as a picture: paths, boxes behind them, URLs of both kinds, and what is refused of the web."""

from __future__ import annotations

import base64
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.conftest import png
from tests.media.test_image import encoded
from vlmchat.errors import DownloadError, ImageError, VlmchatError
from vlmchat.media import web
from vlmchat.media.image import load_rgb
from vlmchat.media.sources import picture_from
from vlmchat.media.web import WebRules, shown

HERE = WebRules(private=True)
Answer = Callable[[BaseHTTPRequestHandler], object]


@dataclass
class Site:
    """A web server on this machine and what was asked of it."""

    port: int = 0
    answers: dict[str, Answer] = field(default_factory=dict)
    hosts: list[str] = field(default_factory=list)

    def url(self, path: str, scheme: str = "http", host: str = "127.0.0.1") -> str:
        return f"{scheme}://{host}:{self.port}{path}"


def served(site: Site, context: ssl.SSLContext | None = None) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            site.hosts.append(self.headers["Host"])
            site.answers[self.path](self)

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    site.port = server.server_address[1]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


@pytest.fixture
def site() -> Iterator[Site]:
    made = Site()
    server = served(made)
    yield made
    server.shutdown()
    server.server_close()


def gives(data: bytes, kind: str = "image/png", status: int = 200, more: dict[str, str] | None = None) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(data)), **(more or {})}.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(data)

    return answer


def leads(to: str) -> Answer:
    return gives(b"", status=302, more={"Location": to})


# boxes


@pytest.fixture
def striped(tmp_path: Path) -> Path:
    """Ten columns of a pixel, each with its number as red; ten rows, each with its number as green."""
    image = Image.new("RGB", (10, 10))
    image.putdata([(x, y, 0) for y in range(10) for x in range(10)])
    path = tmp_path / "striped.png"
    image.save(path)
    return path


@pytest.mark.parametrize(
    ("box", "first", "size"),
    [
        ("[2,3,4,5]", (2, 3), (4, 5)),
        ("[ 0 , 0 , 10 , 10 ]", (0, 0), (10, 10)),
        ("[0,0,1,1]", (0, 0), (1, 1)),
        ("[0.5,0.5,0.5,0.5]", (5, 5), (5, 5)),
        ("[0,.1,1.,0.9]", (0, 1), (10, 9)),
        ("[0.99,0.0,0.01,0.01]", (9, 0), (1, 1)),
        ("[0.7,0.1,0.3,0.2]", (7, 1), (3, 2)),
    ],
)
def test_a_box_of_a_picture(striped: Path, box: str, first: tuple[int, int], size: tuple[int, int]) -> None:
    picture = picture_from(f"{striped}{box}")
    assert (picture.width, picture.height) == size
    assert picture.name == "striped.png" + box
    image = load_rgb(picture)
    assert image.getpixel((0, 0)) == (*first, 0)
    assert image.getpixel((size[0] - 1, size[1] - 1)) == (first[0] + size[0] - 1, first[1] + size[1] - 1, 0)


@pytest.mark.parametrize("box", ["[2,3,9,5]", "[10,0,1,1]", "[0,0,0,5]", "[0.5,0.0,0.6,0.1]", "[0.0,0.0,2.0,1.0]"])
def test_a_box_beyond_the_picture_is_refused(striped: Path, box: str) -> None:
    with pytest.raises(ImageError, match="is not inside a picture of 10 x 10 pixels") as refused:
        picture_from(f"{striped}{box}")
    assert "[left,top,width,height]" in refused.value.hint


def test_a_box_counts_on_the_upright_picture(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "phone.jpg").write_bytes(encoded(Image.new("RGB", (40, 20)), "JPEG", exif=exif))
    assert picture_from(f"{tmp_path / 'phone.jpg'}[0,30,20,10]").height == 10


def test_a_file_of_that_name_wins(striped: Path) -> None:
    real = striped.with_name("striped.png[0,0,1,1]")
    real.write_bytes(png(size=(8, 6)))
    assert picture_from(str(real)).width == 8


@pytest.mark.parametrize("name", ["a[1].png", "a.png[1,2,3]", "a.png[1,2,3,-4]", "a.png[1,2,3,4]x", "[1,2,3,4]"])
def test_what_is_no_box_is_a_name(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(png())
    assert picture_from(str(tmp_path / name)).name == name
    with pytest.raises(ImageError, match="There is no file"):
        picture_from(str(tmp_path / "other" / name))


def test_a_box_of_a_data_url() -> None:
    url = "data:image/png;base64," + base64.b64encode(png(size=(8, 6))).decode()
    assert picture_from(url + "[1,1,3,2]").name == "data[1,1,3,2]"
    assert (picture_from(url).width, picture_from(url + "[1,1,3,2]").width) == (8, 3)


# the web


def test_a_picture_on_the_web(site: Site) -> None:
    site.answers["/a%20photo.png?token=secret"] = gives(png(size=(8, 6)))
    told: list[tuple[int, int]] = []
    picture = picture_from(site.url("/a%20photo.png?token=secret"), HERE, lambda *done: told.append(done))
    assert (picture.name, picture.width, picture.media_type) == ("a photo.png", 8, "image/png")
    assert told[-1] == (len(png(size=(8, 6))),) * 2
    assert site.hosts == [f"127.0.0.1:{site.port}"]
    assert picture_from(site.url("/a%20photo.png?token=secret[0,0,2,2]"), HERE).width == 2


def test_redirects_are_followed_and_counted(site: Site) -> None:
    site.answers["/one"] = leads("/two")
    site.answers["/two"] = leads(site.url("/x.png"))
    site.answers["/x.png"] = gives(png())
    site.answers["/round"] = leads("/round")
    assert picture_from(site.url("/one"), HERE).name == "one"
    with pytest.raises(ImageError, match="without end"):
        picture_from(site.url("/round"), HERE)
    site.answers["/file"] = leads("file:///etc/passwd")
    with pytest.raises(ImageError, match="no http or https URL"):
        picture_from(site.url("/file"), HERE)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "[::1]", "10.0.0.1", "169.254.169.254", "2130706433", "0", "[::ffff:127.0.0.1]",
             "[2002:7f00:1::]", "224.0.0.1", "100.64.0.1"],
)  # fmt: skip
def test_private_addresses_are_refused_unless_asked_for(host: str) -> None:
    with pytest.raises(ImageError, match="of this machine or of a private network") as refused:
        picture_from(f"http://{host}:1/x.png")
    assert "--private-urls" in refused.value.hint


def test_a_public_name_that_redirects_to_a_private_address(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first host resolves here, and is called public; the second one is what it is."""
    site.answers["/x.png"] = leads(site.url("/secret.png", host="127.0.0.2"))
    site.answers["/secret.png"] = gives(png())
    monkeypatch.setattr(web, "_is_public", lambda address: address == "127.0.0.1")
    with pytest.raises(ImageError, match=r"leads to 127\.0\.0\.2"):
        picture_from(site.url("/x.png"))
    assert len(site.hosts) == 1


def test_the_address_that_was_checked_is_the_one_that_is_asked(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that changes its address between the check and the connection is resolved once only."""
    site.answers["/x.png"] = gives(png())
    resolved: list[str] = []
    real = socket.getaddrinfo

    def resolve(host: str, *rest: Any, **options: Any) -> Any:
        if host == "pictures.test":
            resolved.append(host)
            # The first address takes no connection: the next one is tried.
            return [*real("127.0.0.1", 1, **options), *real("127.0.0.1", site.port, **options)][: len(resolved) + 1]
        return real(host, *rest, **options)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    picture_from(site.url("/x.png", host="pictures.test"), HERE)
    assert resolved == ["pictures.test"]
    assert site.hosts == [f"pictures.test:{site.port}"]


@pytest.mark.skipif(shutil.which("openssl") is None, reason="makes its certificate with openssl")
def test_https_checks_the_certificate_of_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-keyout", str(key), "-out", str(certificate), "-subj", "/CN=pictures.test",
         "-addext", "subjectAltName=DNS:pictures.test"],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    site = Site(answers={"/x.png": gives(png())})
    server = served(site, context)
    real = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, *rest, **more: real("127.0.0.1", *rest, **more))
    with pytest.raises(DownloadError, match="certificate"):
        picture_from(site.url("/x.png", "https", "pictures.test"), HERE)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    assert picture_from(site.url("/x.png", "https", "pictures.test"), HERE).width == 8
    with pytest.raises(DownloadError, match="certificate"):
        picture_from(site.url("/x.png", "https", "other.test"), HERE)
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("answer", "error", "says"),
    [
        (gives(b"", status=404), ImageError, "does not give .* .HTTP 404"),
        (gives(b"", status=503), DownloadError, "failed .HTTP 503"),
        (gives(b"<html>", "text/html; charset=utf-8"), ImageError, "is text/html; charset=utf-8, not a picture"),
        (gives(b"<html>", "image/png"), ImageError, "is not a picture this program can read"),
        (gives(png()[:20]), ImageError, "cut short|not a picture"),
        (gives(b"", more={"Content-Length": "999999999999"}), ImageError, "has more than the"),
    ],
)
def test_answers_that_are_no_picture(site: Site, answer: Answer, error: type[VlmchatError], says: str) -> None:
    site.answers["/x.png"] = answer
    with pytest.raises(error, match=says) as refused:
        picture_from(site.url("/x.png"), HERE)
    assert refused.value.hint


def test_a_body_that_grows_without_saying_so(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def endless(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        with_room = threading.Event()
        try:
            while not with_room.wait(0.001):
                handler.wfile.write(b"x" * 10_000)
        except OSError:
            left.set()

    left = threading.Event()
    site.answers["/x.png"] = endless
    monkeypatch.setattr(web, "MAX_BYTES", 50_000)
    with pytest.raises(ImageError, match="has more than the 50,000 bytes"):
        picture_from(site.url("/x.png"), HERE)
    assert left.wait(10), "the connection was closed"
    monkeypatch.setattr(web, "MAX_BYTES", 10**9)
    stop = iter([False, False, True])
    with pytest.raises(ImageError, match="was stopped"):
        picture_from(site.url("/x.png"), HERE, stopped=lambda: next(stop))
    monkeypatch.setattr(web, "WHOLE_S", -1)
    with pytest.raises(DownloadError, match="comes too slowly"):
        picture_from(site.url("/x.png"), HERE)


def test_a_server_that_says_nothing(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = threading.Event()
    site.answers["/x.png"] = lambda handler: asked.wait(5)
    monkeypatch.setattr(web, "SILENCE_S", 0.2)
    with pytest.raises(DownloadError, match="does not answer in time"):
        picture_from(site.url("/x.png"), HERE)
    asked.set()


def test_no_network_and_no_server() -> None:
    with pytest.raises(ImageError, match="--offline is set"):
        picture_from("https://example.org/x.png", WebRules(offline=True))
    with pytest.raises(DownloadError, match="cannot be fetched"):
        picture_from("http://127.0.0.1:9/x.png", HERE)
    for broken in ("http://", "http://[::1/x.png", "http://a b/x.png", "https://:80/"):
        with pytest.raises((ImageError, DownloadError)):
            picture_from(broken, HERE)


def test_a_host_nobody_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*given: object, **options: object) -> object:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(DownloadError, match=r"There is no host nowhere\.test"):
        picture_from("http://nowhere.test/x.png")


def test_a_proxy_is_asked_for_names_but_not_for_private_addresses(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", site.url(""))
    site.answers["http://pictures.test/x.png"] = gives(png())
    assert picture_from("http://pictures.test/x.png").width == 8
    with pytest.raises(ImageError, match="private network"):
        picture_from("http://10.1.2.3/x.png")


def test_messages_keep_secrets() -> None:
    assert shown("https://me:word@example.org/x.png?token=1") == "https://example.org/x.png"
    assert len(shown("https://example.org/" + "x" * 500)) == 80
