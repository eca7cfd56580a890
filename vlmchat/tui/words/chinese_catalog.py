"""What the rows of the catalog say of their models, in Chinese; see ``chinese_errors`` for the form."""

from __future__ import annotations

SENTENCES: dict[str, str] = {
    "A tiny demonstration model that ships with vlmchat: it knows plain drawings of a few coloured shapes, and little "
    "else. Pick a real model for photographs.": (
        "随 vlmchat 附带的小型演示模型：只认识几种彩色图形的简单图画。照片请选用真正的模型。"
    ),
    "Reads pictures on {0}.": "在 {0} 上读取图片。",
    "Reads pictures on {0}. The smallest of the family: runs on any laptop.": (
        "在 {0} 上读取图片。同系列中最小，任何笔记本电脑都能运行。"
    ),
    "Reads pictures on {0}: the longest context of the family.": "在 {0} 上读取图片：同系列中上下文最长。",
    "Reads pictures on {0}: documents, charts, scenes, Chinese and English.": (
        "在 {0} 上读取图片：文档、图表、场景，中文和英文。"
    ),
    "Reads pictures on {0}, with the large 6B vision tower.": "在 {0} 上读取图片，配 6B 大型视觉塔。",
    "{0} with its text model in {1} bit; the vision tower stays in 16 bit.": (
        "{0}，文本模型为 {1} 位；视觉塔保持 16 位。"
    ),
    "{0} with its text model in {1} bit; the visual parts stay in 16 bit.": (
        "{0}，文本模型为 {1} 位；视觉部分保持 16 位。"
    ),
    "Turns pictures into a visual vocabulary and reads it with {0}.": "把图片转换为视觉词表，由 {0} 读取。",
    "Chinese and English. One picture of {0} x {1} pixels a conversation, read by visual experts in every layer of "
    "{2}.": ("中文和英文。每个对话一张 {0} x {1} 像素的图片，由 {2} 每层中的视觉专家读取。"),
    "English. One picture of {0} x {1} pixels a conversation, read by visual experts in every layer of {2}.": (
        "英文。每个对话一张 {0} x {1} 像素的图片，由 {2} 每层中的视觉专家读取。"
    ),
    "The Chinese and English CogVLM2 in 4 bit, vision tower included; made for GPUs of {0} GB.": (
        "4 位的中英文 CogVLM2，含视觉塔；适合 {0} GB 的 GPU。"
    ),
    "The English CogVLM2 in 4 bit, vision tower included; made for GPUs of {0} GB.": (
        "4 位的英文 CogVLM2，含视觉塔；适合 {0} GB 的 GPU。"
    ),
    "English. Continues a text about {0} frames spread over up to a minute of video; no dialogue.": (
        "英文。就一分钟以内视频中的 {0} 帧续写文字；不能对话。"
    ),
    "English. One question about the first {0} seconds of a video, one frame a second.": (
        "英文。就视频的前 {0} 秒提一个问题，每秒一帧。"
    ),
    "{0}; the language model's own licence besides": "{0}；另加语言模型自身的许可",
    "{0}; the AIMv2 vision tower under Apple's own licence": "{0}；AIMv2 视觉塔依 Apple 自己的许可",
    "CogVLM2 License and Meta Llama 3 Community License": "CogVLM2 许可与 Meta Llama 3 社区许可",
}
