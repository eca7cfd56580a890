"""Video files: what is indexed, what is decoded, what is refused."""

from __future__ import annotations

import builtins
import io
import struct
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import pytest
from PIL import Image

from tests.reference_cases import REFERENCE
from vlmchat.conversation import Picture, Video, assistant, user
from vlmchat.errors import VideoError
from vlmchat.media import video
from vlmchat.media.image import read_picture
from vlmchat.media.video import read_clip, read_frames, with_frames

av = pytest.importorskip("av")
FRAMES = 40
CODECS = {
    "h264.mp4": ("libx264", 2, 12),
    "short-gops.mp4": ("libx264", 3, 2),
    "h264.mkv": ("libx264", 2, 12),
    "mpeg4.avi": ("mpeg4", 0, 12),
    "b-frames.avi": ("mpeg4", 2, 12),
    "mpeg2.ts": ("mpeg2video", 2, 12),
    "mpeg2.mpg": ("mpeg2video", 2, 12),
    "vp9.webm": ("libvpx-vp9", 0, 12),
    "mpeg4.mov": ("mpeg4", 2, 12),
}
"""File name -> encoder, B-frames in a row, frames from key to key."""


def write(path: Path, codec: str, between: int, keys: int) -> Path:
    """Write :data:`FRAMES` frames whose red bar grows by one pixel a frame."""
    if codec not in av.codecs_available:
        pytest.skip(f"this PyAV has no {codec}")
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.gop_size = keys
        stream.codec_context.max_b_frames = between
        for number in range(FRAMES):
            image = Image.new("RGB", (64, 48))
            image.paste((255, 0, 0), (0, 0, number + 1, 48))
            container.mux(stream.encode(av.VideoFrame.from_image(image)))
        container.mux(stream.encode())
    return path


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("films")


def pixels(picture: Picture) -> bytes:
    return Image.open(io.BytesIO(picture.read())).tobytes()


@pytest.mark.parametrize("name", CODECS)
def test_frames_by_index_are_those_of_decoding_in_order(films: Path, name: str) -> None:
    path = write(films / name, *CODECS[name])
    with av.open(str(path)) as container:
        shown = [frame.to_image().tobytes() for frame in container.decode(video=0)]
    clip = read_clip(path)
    assert len(clip) == len(shown) == FRAMES
    assert clip.fps == 25
    assert clip.seconds[0] == 0
    assert clip.seconds == pytest.approx([number / 25 for number in range(FRAMES)], abs=1e-3)
    indices = (FRAMES - 1, 0, 13, 13, 14, 25, 1)
    frames = read_frames(clip, indices)
    assert [pixels(frame) for frame in frames] == [shown[index] for index in indices]
    assert frames[2] is frames[3]
    assert {(frame.width, frame.height, frame.media_type) for frame in frames} == {(64, 48, "image/png")}
    assert read_picture(frames[0].read()).digest == frames[0].digest


def test_frames_behind_one_another_are_decoded_without_seeking(films: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = read_clip(write(films / "one.mp4", "mpeg4", 0, 100))
    assert clip.keys == clip.ticks[:1]
    asked: list[int] = []
    starts = video._starts
    monkeypatch.setattr(video, "_starts", lambda *args: asked.append(args[1]) or starts(*args))  # type: ignore[func-returns-value]
    read_frames(clip, tuple(range(5, 20)))
    assert all(before < after for before, after in pairwise(asked))


def test_a_phone_s_rotation_is_undone(films: Path) -> None:
    """The track header's matrix of a film taken upright (ISO 14496-12, 8.3.2)."""
    path = write(films / "turned.mp4", "mpeg4", 0, 12)
    plain = read_frames(read_clip(path), (30,))[0]
    data = bytearray(path.read_bytes())
    matrix = data.index(b"tkhd") + 44
    data[matrix : matrix + 36] = struct.pack(">9i", 0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30)
    turned = films / "upright.mp4"
    turned.write_bytes(data)
    frame = read_frames(read_clip(turned), (30,))[0]
    assert (frame.width, frame.height) == (48, 64)
    upright = Image.open(io.BytesIO(plain.read())).rotate(-90, expand=True)
    assert pixels(frame) == upright.tobytes()


def test_a_changed_file_is_read_again(films: Path) -> None:
    path = write(films / "changing.mp4", "mpeg4", 0, 12)
    first = read_clip(path)
    assert read_clip(path) is first
    path.write_bytes((REFERENCE / "cogvlm2/video_sampling/s24_half.mp4").read_bytes())
    assert len(read_clip(path)) == 12


def test_messages_get_their_frames(films: Path) -> None:
    path = write(films / "asked.mp4", "mpeg4", 0, 12)
    given = Video("d", "given", (read_picture(REFERENCE / "cogvlm2/cogvlm2-image/inputs/wide.png"),))
    messages = [user("a", Video("d", "file", path=path)), assistant("b"), user("c", given)]
    first, second, third = with_frames(messages, lambda clip: [0, len(clip) - 1])
    (sampled, text) = first.parts
    assert isinstance(sampled, Video)
    assert [pixels(frame) for frame in sampled.frames] == [pixels(f) for f in read_frames(read_clip(path), (0, 39))]
    assert text == messages[0].parts[1]
    assert (second, third) == (messages[1], messages[2])
    with pytest.raises(VideoError, match="neither frames nor a file"):
        with_frames([user("a", Video("d", "empty"))], lambda clip: [0])


def refused() -> Iterator[tuple[str, bytes]]:
    film = (REFERENCE / "cogvlm2/video_sampling/s24_half.mp4").read_bytes()
    yield "cut.mp4", film[:700]
    yield "noise.mp4", b"noise" * 100
    yield "empty.mp4", b""
    yield "picture.mp4", (REFERENCE / "cogvlm2/cogvlm2-image/inputs/wide.png").read_bytes()
    # Playlists and scripts would make FFmpeg open other files and addresses.
    yield "list.m3u8", b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n"
    yield "script.mp4", b"ffconcat version 1.0\nfile /etc/passwd\n"
    yield "sound.wav", b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0\1\0\1\0\x40\x1f\0\0\x80\x3e\0\0\2\0\x10\0data\0\0\0\0"


@pytest.mark.parametrize(("name", "data"), refused(), ids=lambda value: value if isinstance(value, str) else "")
def test_what_is_no_video_is_refused(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(VideoError, match=name.replace(".", r"\.")):
        read_clip(tmp_path / name)


def test_a_file_without_pictures_is_refused(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "sound.mkv"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=16000)
        frame = av.AudioFrame(format="s16", layout="mono", samples=1024)
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
    with pytest.raises(VideoError, match="no video stream"):
        read_clip(tmp_path / "sound.mkv")


def test_missing_files_and_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match=r"none\.mp4 cannot be read"):
        read_clip(tmp_path / "none.mp4")
    with pytest.raises(VideoError, match=r"directory|Permission"):
        read_clip(tmp_path)


def test_limits(films: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(films / "large.mp4", "mpeg4", 0, 12)
    monkeypatch.setattr(video, "MAX_FRAMES", 10)
    with pytest.raises(VideoError, match="more than 10 frames"):
        read_clip(path)
    monkeypatch.setattr(video, "MAX_PIXELS", 100)
    with pytest.raises(VideoError, match="64 x 48 pixels"):
        read_clip(path)


def test_a_file_that_changed_meanwhile_is_refused(films: Path) -> None:
    path = write(films / "meanwhile.mp4", "mpeg4", 0, 12)
    clip = read_clip(path)
    path.write_bytes((REFERENCE / "cogvlm2/video_sampling/s24_half.mp4").read_bytes())
    with pytest.raises(VideoError, match=r"meanwhile\.mp4"):
        read_frames(clip, (39,))


def test_without_pyav_the_remedy_is_told(films: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(films / "unread.mp4", "mpeg4", 0, 12)
    imported = builtins.__import__

    def without(name: str, *args: object) -> ModuleType:
        if name == "av":
            raise ImportError(name)
        return imported(name, *args)  # type: ignore[arg-type]

    monkeypatch.delitem(sys.modules, "av")
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(VideoError, match="needs PyAV") as caught:
        read_clip(path)
    assert "vlmchat[video]" in caught.value.hint
