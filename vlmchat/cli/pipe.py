"""``vlmchat pipe``: one request per line on stdin, one result per line on stdout, in the same order."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

import click

from vlmchat.chat import opening
from vlmchat.chat.opening import Target
from vlmchat.cli.answering import Opened, answer_object, opened
from vlmchat.cli.interrupt import interruptible
from vlmchat.cli.options import examples, shared
from vlmchat.cli.output import Talk, write_json, write_line
from vlmchat.cli.progress import progress_text
from vlmchat.cli.requests import Line, build, decode, identify, read_lines
from vlmchat.engine.api import Request
from vlmchat.engine.events import Finished
from vlmchat.errors import ExitCode, VlmchatError
from vlmchat.settings import Settings


@click.command(
    epilog=examples(
        "ls photos/*.jpg | vlmchat pipe --prompt 'Name the main colour.' --format text",
        "vlmchat pipe -m internvl2:1b --max-new-tokens 64 < requests.jsonl > answers.jsonl",
    )
)
@click.option("--prompt", metavar="TEXT", help="Ask this of pictures that come without a prompt.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["jsonl", "text"]),
    default="jsonl",
    help="jsonl: an object per line (default); text: only the answers.",
)
@shared()
def command(settings: Settings, talk: Talk, prompt: str | None, form: str) -> ExitCode:
    r"""Answer one request per line of stdin, in order, each written as soon as it is done.

    A line is the path of a picture, or a JSON object: {"prompt": …, "images": […]} or
    {"messages": […]}, with "id" and generation options if you like. A bad line gives an error
    object, and the next line goes on. Nothing is saved.
    """
    target = opening.find(settings.model, settings.hub)
    settings = replace(settings, vision=target.vision(settings.vision))
    with ExitStack() as stack:
        pipe = _Pipe(settings, talk, target, stack, prompt, form == "text")
        if sys.stdin is not None:
            for line in read_lines(sys.stdin.buffer):
                if pipe.take(line) == "interrupted":
                    return ExitCode.INTERRUPTED
    return ExitCode.SOME_LINES_FAILED if pipe.failed else ExitCode.OK


@dataclass
class _Pipe:
    """The run of one pipe: the model comes up with the first line that needs it."""

    settings: Settings
    talk: Talk
    target: Target
    stack: ExitStack
    prompt: str | None
    text_only: bool
    failed: int = 0
    """Lines that gave an error."""
    _model: Opened | None = field(default=None, init=False)

    def take(self, line: Line) -> str:
        """Answer one line, or write its error; return why the answer ended, empty for an error."""
        fields: Mapping[str, object] = {}
        try:
            fields = decode(line)
            request, settings = build(line, fields, self.prompt, self.settings)
        except VlmchatError as problem:
            return self._fail(line, fields, problem)
        model = self._opened()
        try:
            finished = self._answer(model, request)
        except VlmchatError as problem:
            return self._fail(line, fields, problem)
        if self.text_only:
            write_line(finished.text)
        else:
            write_json(answer_object(identify(fields), model, settings, finished, None))
        model.load_s = 0.0
        return finished.reason

    def _opened(self) -> Opened:
        if self._model is None:
            self._model = self.stack.enter_context(opened(self.settings, self.target, self.talk))
        return self._model

    def _answer(self, model: Opened, request: Request) -> Finished:
        finished: Finished | None = None
        with interruptible() as cancel:
            for event in model.engine.generate(request, cancel):
                self.talk.status(progress_text(event))
                finished = event if isinstance(event, Finished) else finished
        assert finished is not None, "an engine ends every answer with Finished"
        return finished

    def _fail(self, line: Line, fields: Mapping[str, object], problem: VlmchatError) -> str:
        self.failed += 1
        if self.text_only:
            self.talk.warn(f"line {line.number}: {problem.message}")
        else:
            error = {"code": problem.code, "message": problem.message, "hint": problem.hint}
            write_json({"id": identify(fields), "error": error})
        return ""
