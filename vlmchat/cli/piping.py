"""What ``vlmchat pipe`` does: lines in, read ahead; requests through one engine; results out in order."""

from __future__ import annotations

import io
import os
import stat
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from itertools import chain, count
from pathlib import Path
from typing import BinaryIO

from vlmchat.chat.opening import Target
from vlmchat.cli.answering import Opened, answer_object, opened, with_kept
from vlmchat.cli.fetching import obtain
from vlmchat.cli.inorder import InOrder
from vlmchat.cli.interrupt import interruptible
from vlmchat.cli.output import Talk, counted, write_line
from vlmchat.cli.progress import LineProgress
from vlmchat.cli.requests import Line, build, decode, identify, key_of, read_lines
from vlmchat.cli.results import FileResults, Results, StdoutResults
from vlmchat.cli.shape import TokenEnds, shape_object
from vlmchat.engine.api import Request
from vlmchat.engine.events import AnswerEvent, Failed, Finished
from vlmchat.engine.schema import read_schema
from vlmchat.errors import ExitCode, UsageError, VlmchatError
from vlmchat.settings import Settings

ROOM = 16
"""Lines for each row of a batch that may be under way or wait for a slower one before them."""


@dataclass(frozen=True, slots=True)
class PipeOptions:
    """What was typed beside the shared options."""

    prompt: str | None
    form: str
    variables: tuple[str, ...]
    schema: str | None
    output: Path | None
    resume: bool
    retry_failed: bool
    batch_size: int


@dataclass(frozen=True, slots=True)
class _Prepared:
    """One line that is ready to be answered, or to be told what is wrong with it."""

    line: Line
    answer_id: object
    key: str
    settings: Settings
    request: Request | None = None
    problem: VlmchatError | None = None


@dataclass(frozen=True, slots=True)
class _Result:
    """The end of one line."""

    item: _Prepared
    outcome: Finished | VlmchatError
    tokens: TokenEnds = field(default_factory=TokenEnds)


def pipe(settings: Settings, talk: Talk, options: PipeOptions) -> ExitCode:
    """Answer every line of stdin.

    Raises:
        UsageError: options that do not go together, or an output that may not be written.
        VlmchatError: the model cannot be had; a line that fails raises nothing.
    """
    if options.resume and options.output is None:
        raise UsageError("--resume goes on with a file of results.", "Name it with --output FILE.")
    if options.retry_failed and not options.resume:
        raise UsageError("--retry-failed asks again what an earlier run could not answer.", "Add --resume.")
    if options.output is not None and options.form == "text":
        raise UsageError("--format text keeps no ids in the file.", "Leave one of --output and --format text out.")
    settings, prompt, shape_text = with_kept(settings, options.prompt, options.schema, options.variables)
    options = replace(options, prompt=prompt)
    schema = None if shape_text is None else read_schema(shape_text)
    target = obtain(settings, talk, settings.model)
    settings = replace(settings, vision=target.vision(settings.vision))
    results: Results = StdoutResults()
    if options.output is not None:
        results = FileResults(options.output.expanduser(), options.resume, options.retry_failed)
    with ExitStack() as stack:
        stack.enter_context(closing(results))
        run = _Run(settings, talk, options, schema, results)
        whole = run.answer_all(target, stack)
    if run.progress.skipped:
        talk.warn(f"Answered before: {counted(run.progress.skipped, 'line')}.")
    if not whole:
        return ExitCode.INTERRUPTED
    return ExitCode.SOME_LINES_FAILED if run.progress.failed else ExitCode.OK


@dataclass
class _Run:
    """The run of one pipe: the model comes up with the first line that needs it."""

    settings: Settings
    talk: Talk
    options: PipeOptions
    schema: str | None
    results: Results
    progress: LineProgress = field(init=False)
    _order: InOrder[_Result] = field(init=False)
    _model: Opened | None = field(default=None, init=False)
    _over: threading.Event = field(default_factory=threading.Event, init=False)
    _asked: dict[int, tuple[int, _Prepared, TokenEnds]] = field(default_factory=dict, init=False)
    """By the engine's number: the place in the output, the line, and where its tokens end."""

    def __post_init__(self) -> None:
        """See how long the input is, if that can be known."""
        self.progress = LineProgress(_input_bytes())
        self._order = InOrder(self._write, ROOM * self.options.batch_size)

    def answer_all(self, target: Target, stack: ExitStack) -> bool:
        """Answer every line; False when Ctrl-C ended it."""
        requests = self._requests()
        first = next(requests, None)
        if first is None:
            return True
        model = self._model = stack.enter_context(opened(self.settings, target, self.talk))
        self.progress.begin()
        stack.callback(self._over.set)
        with interruptible() as cancel:
            # From here on the engine reads the lines on a thread of its own, a few ahead.
            for number, event in model.engine.generate_many(chain([first], requests), self.options.batch_size, cancel):
                self._take(number, event)
            return not cancel.is_set()

    def _take(self, number: int, event: AnswerEvent | Failed) -> None:
        place, item, tokens = self._asked[number]
        tokens.note(event)
        if isinstance(event, Finished | Failed):
            del self._asked[number]
            outcome = event if isinstance(event, Finished) else event.problem
            self._order.put(place, _Result(item, outcome, tokens))

    def _requests(self) -> Iterator[Request]:
        """Yield what the engine is to answer; a line it need not see gets its place and its error here."""
        numbers = count()
        for item in self._prepared():
            place = self._order.place(lambda: not self._over.is_set())
            if place is None:
                return
            if item.request is None:
                assert item.problem is not None, "a line has a request or a problem"
                self._order.put(place, _Result(item, item.problem))
                continue
            self._asked[next(numbers)] = place, item, TokenEnds()
            yield item.request

    def _prepared(self) -> Iterator[_Prepared]:
        """Yield the lines of stdin that have no result yet, made ready: pictures read, fetched and cropped."""
        stream = _input()
        for line in read_lines(stream) if stream is not None else ():
            fields: Mapping[str, object] = {}
            problem: VlmchatError | None = None
            try:
                fields = decode(line)
            except VlmchatError as wrong:
                problem = wrong
            key = key_of(line, fields)
            if self.results.has(key):
                self.progress.skip(line.end)
            elif problem is not None:
                yield _Prepared(line, identify(fields), key, self.settings, problem=problem)
            else:
                yield self._built(line, fields, key)

    def _built(self, line: Line, fields: Mapping[str, object], key: str) -> _Prepared:
        try:
            request, settings = build(line, fields, self.options.prompt, self.settings)
        except VlmchatError as wrong:
            return _Prepared(line, identify(fields), key, self.settings, problem=wrong)
        return _Prepared(line, identify(fields), key, settings, replace(request, schema=self.schema))

    def _write(self, result: _Result) -> None:
        """Write one result; called for one after the other, in order."""
        self.talk.clear()
        failed = False
        try:
            self._write_answer(result)
        except VlmchatError as problem:
            failed = True
            self._write_error(result.item, problem)
        self.progress.count(result.item.line.end, failed)
        self.talk.status(self.progress.text)

    def _write_answer(self, result: _Result) -> None:
        """Write an answer; a file leaves out one that Ctrl-C cut short.

        Raises:
            VlmchatError: the line failed, or its answer has not the shape of the schema.
        """
        outcome, item = result.outcome, result.item
        if isinstance(outcome, VlmchatError):
            raise outcome
        whole = outcome.reason != "interrupted"
        shape = shape_object(outcome, self.schema, result.tokens) if self.schema is not None and whole else {}
        assert self._model is not None, "an answer comes from a model"
        if self.options.form == "text":
            write_line(outcome.text)
        elif whole or self.options.output is None:
            value = answer_object(item.answer_id, self._model, item.settings, outcome, None)
            self.results.add(item.key, {**value, **shape})
        self._model.load_s = 0.0

    def _write_error(self, item: _Prepared, problem: VlmchatError) -> None:
        if self.options.form == "text":
            self.talk.warn(f"line {item.line.number}: {problem.message}")
            return
        error = {"code": problem.code, "message": problem.message, "hint": problem.hint}
        self.results.add(item.key, {"id": item.answer_id, "error": error})


def _input() -> BinaryIO | None:
    """Return stdin's bytes through a buffer of our own.

    The reading thread may still wait for a line when the process ends; were it in ``sys.stdin``, the
    interpreter could not close that.
    """
    if sys.stdin is None:
        return None
    try:
        return os.fdopen(sys.stdin.fileno(), "rb", closefd=False)
    except (OSError, io.UnsupportedOperation):
        return sys.stdin.buffer


def _input_bytes() -> int:
    """Return the size of stdin where it is a file; 0 where nobody knows."""
    try:
        about = os.fstat(sys.stdin.fileno()) if sys.stdin is not None else None
    except (OSError, io.UnsupportedOperation):
        return 0
    return about.st_size if about is not None and stat.S_ISREG(about.st_mode) else 0
