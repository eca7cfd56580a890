"""What ``vlmchat pipe`` does: lines in, read ahead; requests through one engine; results out in order."""

from __future__ import annotations

import io
import os
import stat
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO

from vlmchat.chat.opening import Target
from vlmchat.cli.answering import Opened, answer_object, opened
from vlmchat.cli.fetching import obtain
from vlmchat.cli.interrupt import interruptible
from vlmchat.cli.output import Talk, write_line
from vlmchat.cli.progress import LineProgress
from vlmchat.cli.readahead import ReadAhead
from vlmchat.cli.requests import Line, build, decode, identify, key_of, read_lines
from vlmchat.cli.results import FileResults, Results, StdoutResults
from vlmchat.engine.api import Request
from vlmchat.engine.events import Finished
from vlmchat.errors import ExitCode, UsageError, VlmchatError
from vlmchat.settings import Settings

READ_AHEAD = 4
"""Lines that are made ready, pictures in memory, while one is answered."""


@dataclass(frozen=True, slots=True)
class PipeOptions:
    """What was typed beside the shared options."""

    prompt: str | None
    form: str
    output: Path | None
    resume: bool


@dataclass(frozen=True, slots=True)
class _Prepared:
    """One line that is ready to be answered, or to be told what is wrong with it."""

    line: Line
    answer_id: object
    key: str
    settings: Settings
    request: Request | None = None
    problem: VlmchatError | None = None


def pipe(settings: Settings, talk: Talk, options: PipeOptions) -> ExitCode:
    """Answer every line of stdin.

    Raises:
        UsageError: options that do not go together, or an output that may not be written.
        VlmchatError: the model cannot be had; a line that fails raises nothing.
    """
    if options.resume and options.output is None:
        raise UsageError("--resume goes on with a file of results.", "Name it with --output FILE.")
    if options.output is not None and options.form == "text":
        raise UsageError("--format text keeps no ids in the file.", "Leave one of --output and --format text out.")
    target = obtain(settings, talk, settings.model)
    settings = replace(settings, vision=target.vision(settings.vision))
    results: Results = (
        StdoutResults() if options.output is None else FileResults(options.output.expanduser(), options.resume)
    )
    with ExitStack() as stack:
        stack.enter_context(closing(results))
        run = _Run(settings, talk, options, target, results, stack)
        lines = stack.enter_context(ReadAhead(run.prepared(), READ_AHEAD))
        while group := lines.take(1):
            if not run.answer(group):
                return ExitCode.INTERRUPTED
    if run.progress.skipped:
        talk.warn(f"{run.progress.skipped:,} lines were answered before.")
    return ExitCode.SOME_LINES_FAILED if run.progress.failed else ExitCode.OK


@dataclass
class _Run:
    """The run of one pipe: the model comes up with the first line that needs it."""

    settings: Settings
    talk: Talk
    options: PipeOptions
    target: Target
    results: Results
    stack: ExitStack
    progress: LineProgress = field(init=False)
    _model: Opened | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        """See how long the input is, if that can be known."""
        self.progress = LineProgress(_input_bytes())

    def prepared(self) -> Iterator[_Prepared]:
        """Yield the lines of stdin that have no result yet, made ready; runs on the reading thread."""
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
        return _Prepared(line, identify(fields), key, settings, request)

    def answer(self, group: list[_Prepared]) -> bool:
        """Answer lines and write their results; False when Ctrl-C ended it."""
        for item in group:
            outcome = item.problem or self._outcome(item)
            self.talk.clear()
            if isinstance(outcome, VlmchatError):
                self._fail(item, outcome)
            elif not self._write(item, outcome):
                return False
            self.progress.count(item.line.end, isinstance(outcome, VlmchatError))
            self.talk.status(self.progress.text)
        return True

    def _outcome(self, item: _Prepared) -> Finished | VlmchatError:
        assert item.request is not None, "a line without a problem has a request"
        model = self._opened()
        self.progress.begin()
        finished: Finished | None = None
        try:
            with interruptible() as cancel:
                for event in model.engine.generate(item.request, cancel):
                    finished = event if isinstance(event, Finished) else finished
        except VlmchatError as problem:
            return problem
        assert finished is not None, "an engine ends every answer with Finished"
        return finished

    def _opened(self) -> Opened:
        if self._model is None:
            self._model = self.stack.enter_context(opened(self.settings, self.target, self.talk))
        return self._model

    def _write(self, item: _Prepared, finished: Finished) -> bool:
        """Write an answer; False when it is one that Ctrl-C cut short, which a file leaves out."""
        whole = finished.reason != "interrupted"
        model = self._opened()
        if self.options.form == "text":
            write_line(finished.text)
        elif whole or self.options.output is None:
            self.results.add(item.key, answer_object(item.answer_id, model, item.settings, finished, None))
        model.load_s = 0.0
        return whole

    def _fail(self, item: _Prepared, problem: VlmchatError) -> None:
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
