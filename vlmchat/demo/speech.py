"""The words of the demo: names of shapes, colours and places, and the answers, in English and Chinese.

Answers have one fixed form each. Variety there would cost capacity and gain nothing: the model decodes greedily.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from vlmchat.demo.colours import COLOURS
from vlmchat.demo.dice import Dice
from vlmchat.demo.world import SHAPES, Thing

Language = Literal["en", "zh"]

NUMERALS: Final = {"en": ("no", "one", "two", "three", "four"), "zh": ("零", "一", "两", "三", "四")}
SHAPE_ZH: Final = ("圆形", "正方形", "三角形", "星形", "心形", "十字形", "菱形")
COLOUR_ZH: Final = ("红色", "橙色", "黄色", "绿色", "蓝色", "紫色", "粉色", "棕色", "黑色", "白色", "灰色")
SHAPE_ALIASES: Final = {
    "en": (
        ("disc", "ball", "oval", "ellipse", "ring", "dot"),
        ("rectangle", "box", "block"),
        ("triangle",),
        ("star",),
        ("heart",),
        ("plus", "plus sign", "x"),
        ("rhombus",),
    ),
    "zh": (
        ("圆", "圆圈", "椭圆"),
        ("方形", "方块", "长方形", "矩形"),
        ("三角",),
        ("星星", "五角星"),
        ("爱心", "心"),
        ("十字", "加号"),
        ("钻石",),
    ),
}
"""Other words in questions; answers always use the plain name."""
COLOUR_ALIASES: Final[dict[str, dict[str, tuple[str, ...]]]] = {
    "en": {"gray": ("grey",), "purple": ("violet",)},
    "zh": {"粉色": ("粉红色",), "棕色": ("褐色", "咖啡色"), "橙色": ("橘色",)},
}
PLACES: Final = {
    "en": (
        "at the top left",
        "at the top",
        "at the top right",
        "on the left",
        "in the middle",
        "on the right",
        "at the bottom left",
        "at the bottom",
        "at the bottom right",
    ),
    "zh": ("左上角", "上边", "右上角", "左边", "中间", "右边", "左下角", "下边", "右下角"),
}
"""Indexed by 3 * row + column."""
PLACE_ALIASES: Final = {
    "en": (
        ("in the top left corner", "in the upper left", "in the upper left corner", "top left", "in the top left"),
        ("on top", "on the top", "at the top of the picture", "in the upper part", "in the top part", "up there"),
        ("in the top right corner", "in the upper right", "in the upper right corner", "top right", "in the top right"),
        ("on the left side", "to the left", "at the left", "in the left part", "left", "on the left of the picture"),
        ("in the center", "in the centre", "at the center", "in the middle of the picture", "in the center of it"),
        (
            "on the right side",
            "to the right",
            "at the right",
            "in the right part",
            "right",
            "on the right of the picture",
        ),
        (
            "in the bottom left corner",
            "in the lower left",
            "in the lower left corner",
            "bottom left",
            "in the bottom left",
        ),
        ("on the bottom", "at the bottom of the picture", "in the lower part", "in the bottom part", "down there"),
        (
            "in the bottom right corner",
            "in the lower right",
            "in the lower right corner",
            "bottom right",
            "in the bottom right",
        ),
    ),
    "zh": (
        ("左上",),
        ("上面", "上方", "顶部"),
        ("右上",),
        ("左侧", "左面"),
        ("中央", "正中间", "中心"),
        ("右侧", "右面"),
        ("左下",),
        ("下面", "下方", "底部"),
        ("右下",),
    ),
}

ABOUT: Final = {
    "en": "I am a tiny demonstration model: I know simple shapes, colours and numbers. "
    "Pick a real model with `vlmchat models`.",
    "zh": "我是一个很小的演示模型，只认识简单的形状、颜色和数字。请用 `vlmchat models` 选一个真正的模型。",
}
UNKNOWN_PICTURE: Final = {
    "en": "I do not know what this shows. I am a tiny demonstration model; pick a real one with `vlmchat models`.",
    "zh": "我不认识这张图。我是一个很小的演示模型，请用 `vlmchat models` 选一个真正的模型。",
}
UNKNOWN_QUESTION: Final = {
    "en": "I cannot answer that. I am a tiny demonstration model; pick a real one with `vlmchat models`.",
    "zh": "我回答不了这个问题。我是一个很小的演示模型，请用 `vlmchat models` 选一个真正的模型。",
}
NO_PICTURE: Final = {
    "en": "There is no picture yet. Give me one with simple shapes or a number.",
    "zh": "还没有图片。请给我一张有简单形状或数字的图片。",
}
HELLO: Final = {
    "en": "Hello! Ask me about a picture with simple shapes or a number.",
    "zh": "你好！请给我看一张有简单形状或数字的图片。",
}
THANKS: Final = {"en": "You are welcome!", "zh": "不客气！"}
BYE: Final = {"en": "Goodbye!", "zh": "再见！"}


@dataclass(frozen=True)
class Words:
    """Names and answers in one language; ``a_`` methods return phrases for questions, the others for answers."""

    language: Language

    @property
    def english(self) -> bool:
        """Whether the language is English."""
        return self.language == "en"

    def shape(self, symbol: int) -> str:
        """Plain name of a shape."""
        return SHAPES[symbol] if self.english else SHAPE_ZH[symbol]

    def colour(self, colour: int) -> str:
        """Plain name of a colour."""
        return COLOURS[colour] if self.english else COLOUR_ZH[colour]

    def place(self, row: int, column: int) -> str:
        """Answer form of a place, such as "at the top left"."""
        return PLACES[self.language][3 * row + column]

    def thing(self, thing: Thing) -> str:
        """Colour and shape without an article: "red circle"."""
        colour, shape = self.colour(thing.colour), self.shape(thing.symbol)
        return f"{colour} {shape}" if self.english else f"{colour}的{shape}"

    def a_shape(self, symbol: int, rng: Dice) -> str:
        """Name of a shape as asked for: one time in five another word for it."""
        aliases = SHAPE_ALIASES[self.language][symbol]
        return rng.choice(aliases) if rng.random() < 0.2 else self.shape(symbol)

    def a_colour(self, colour: int, rng: Dice) -> str:
        """Name of a colour as asked for."""
        name = self.colour(colour)
        aliases = COLOUR_ALIASES[self.language].get(name, ())
        return rng.choice(aliases) if aliases and rng.random() < 0.3 else name

    def a_place(self, place: int, rng: Dice) -> str:
        """Name of a place as asked for."""
        aliases = PLACE_ALIASES[self.language][place]
        return rng.choice(aliases) if rng.random() < 0.6 else PLACES[self.language][place]

    def counted(self, things: Sequence[Thing]) -> list[tuple[str, list[Thing]]]:
        """Name things, equal ones together: "a red circle", "two blue stars", each with its things."""
        groups: dict[tuple[int, int], list[Thing]] = {}
        for thing in things:
            groups.setdefault((thing.symbol, thing.colour), []).append(thing)
        parts = []
        for group in groups.values():
            name, count = self.thing(group[0]), len(group)
            if self.english:
                text = f"{article(name)} {name}" if count == 1 else f"{NUMERALS['en'][count]} {plural(name)}"
            else:
                text = f"{NUMERALS['zh'][count]}个{name}"
            parts.append((text, group))
        return parts

    def join(self, parts: Sequence[str]) -> str:
        """Join with commas and a last "and"."""
        if self.english:
            return " and ".join((", ".join(parts[:-1]), parts[-1])) if len(parts) > 1 else parts[0]
        return "和".join(("、".join(parts[:-1]), parts[-1])) if len(parts) > 1 else parts[0]

    def be(self, subject: str, what: str) -> str:
        """Say "The star is blue." or "星形是蓝色的。"; the subject "it" stays "It"."""
        if self.english:
            return f"It is {what}." if subject == "it" else f"The {subject} is {what}."
        return f"{'它' if subject == 'it' else subject}是{what}。"


def article(name: str) -> str:
    """Return "an" before a vowel, else "a"."""
    return "an" if name[0] in "aeio" else "a"


def plural(name: str) -> str:
    """Return the plural of a shape name."""
    return name + ("es" if name.endswith(("s", "x")) else "s")
