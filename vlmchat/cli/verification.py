"""``vlmchat verify``: a checkpoint's files, tensors and numbers, as a table to paste into a bug report."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import vlmchat
from vlmchat.chat import opening
from vlmchat.chat.opening import Target
from vlmchat.chat.verifying import Verification, verify
from vlmchat.cli.interrupt import interruptible
from vlmchat.cli.output import Talk, size_text, write_json, write_line, write_table
from vlmchat.cli.progress import progress_text
from vlmchat.engine.events import Loading
from vlmchat.engine.findings import STEPS, Audit, Compared, Comparing, Computing, Refusal
from vlmchat.errors import CheckpointError, ExitCode
from vlmchat.hub.digests import FileCheck, Hashing, unread_files
from vlmchat.options import LoadOptions
from vlmchat.paths import user_path
from vlmchat.plaintext import one_line
from vlmchat.settings import Settings

_PACKAGES = ("torch", "transformers", "tokenizers", "safetensors")
_VERDICTS = {"same": "as on the hub", "differs": "DIFFERS", "unknown": "not recorded"}
_LABEL_WIDTH = 14
_NAMED = 4
"""Cases that a row names before it counts the rest."""


@dataclass
class Report:
    """All that was found."""

    target: Target
    reference: Path | None
    files: list[FileCheck] = field(default_factory=list)
    unread: tuple[str, ...] = ()
    audit: Audit | None = None
    refusal: Refusal | None = None
    computing: Computing | None = None
    rows: list[Compared] = field(default_factory=list)

    def take(self, event: Verification) -> None:
        """Keep a row; progress is none."""
        match event:
            case FileCheck():
                self.files.append(event)
            case Audit():
                self.audit = event
            case Refusal():
                self.refusal = event
            case Computing():
                self.computing = event
            case Compared():
                self.rows.append(event)
            case _:
                pass

    @property
    def altered(self) -> list[FileCheck]:
        """The files that are not the hub's."""
        return [file for file in self.files if file.verdict == "differs"]

    @property
    def first_difference(self) -> Compared | None:
        """The first row of the earliest step that differs: what comes after it follows from it."""
        wrong = [row for row in self.rows if not row.ok]
        return min(wrong, key=lambda row: STEPS.index(row.step), default=None)

    @property
    def problem(self) -> CheckpointError | None:
        """The first thing that is wrong, as an error; None when all is well."""
        if self.altered:
            names = ", ".join(file.name for file in self.altered)
            return CheckpointError(f"Not as the hub has it: {names}.", "Remove what differs and fetch it again.")
        if self.refusal is not None:
            return CheckpointError(self.refusal.message, self.refusal.hint)
        if row := self.first_difference:
            return CheckpointError(
                f"It does not compute what the original does: the first step that differs is {row.step}, "
                f"in case {row.case}: {_amount(row)}.",
                "Fetch the checkpoint again; if that does not help, report this table.",
            )
        return None


def verify_model(
    settings: Settings, talk: Talk, reference_name: str | None, reference: str | None, as_json: bool
) -> ExitCode:
    """Check a checkpoint, write the report, and raise what is wrong.

    Raises:
        VlmchatError: there is no such checkpoint, or it is not what it should be.
    """
    target = opening.find(reference_name or settings.model, settings.hub)
    report = Report(target, None if reference is None else user_path(reference))
    report.unread = unread_files(target.folder)
    typed = settings.source("dtype").startswith("--")
    options = LoadOptions(settings.load.device, settings.load.dtype if typed else "auto")
    _run(report, options, talk)
    if as_json:
        write_json(report_object(report), indent=2)
    else:
        _write(report)
    if problem := report.problem:
        raise problem
    return ExitCode.OK


def _run(report: Report, options: LoadOptions, talk: Talk) -> None:
    """Fill the report, with progress on the terminal.

    Raises:
        KeyboardInterrupt: Ctrl-C.
    """
    with interruptible() as cancel:
        for event in verify(report.target.folder, options, report.reference, cancel):
            report.take(event)
            talk.status(_progress(event))
        talk.clear()
        if cancel.is_set():
            raise KeyboardInterrupt


def _progress(event: Verification) -> str:
    match event:
        case Hashing(name=name, done=done, total=total):
            return f"Hashing {one_line(name)}: {size_text(done)} of {size_text(total)}"
        case Comparing(case=case, number=number, cases=cases):
            return f"Comparing {one_line(case)}: {number} of {cases}"
        case Loading():
            return progress_text(event)
        case _:
            return ""


def report_object(report: Report) -> dict[str, object]:
    """Return all of it, for ``--json``; ``parity`` is null without a reference folder."""
    parts = [field.name for kind in (Audit, Refusal) for field in fields(kind)]
    audit: dict[str, object] = {"ok": report.audit is not None and report.refusal is None, **dict.fromkeys(parts)}
    audit |= asdict(report.audit) if report.audit else {}
    audit |= asdict(report.refusal) if report.refusal else {}
    return {
        "model": report.target.name,
        "folder": str(report.target.folder),
        "revision": report.target.revision or None,
        "ok": report.problem is None,
        "versions": dict(_versions()),
        "device": report.computing.device if report.computing else None,
        "dtype": report.computing.dtype if report.computing else None,
        "files": [asdict(file) for file in report.files],
        "not_read": list(report.unread),
        "audit": audit,
        "parity": _parity_object(report),
    }


def _parity_object(report: Report) -> dict[str, object] | None:
    if report.reference is None:
        return None
    first = report.first_difference
    return {
        "reference": str(report.reference),
        "ok": bool(report.rows) and first is None,
        "first_difference": first.step if first else None,
        "rows": [{**asdict(row), "ok": row.ok} for row in report.rows],
    }


def _write(report: Report) -> None:
    _write_facts(_header(report))
    write_line("")
    rows = ((file.name, str(file.bytes), _VERDICTS[file.verdict], file.sha256) for file in report.files)
    write_table(("FILE", "BYTES", "HUB", "SHA256"), rows, frozenset({1}), plain=True)
    write_line("")
    _write_facts(_audit_lines(report))
    if report.rows:
        write_line("")
        headers = ("STEP", "CASES", "DIFFERENCE", "ALLOWED", "RESULT")
        write_table(headers, _parity_rows(report.rows), frozenset({1, 2, 3}), plain=True)
    write_line("")
    _write_facts([("result", report.problem.message if report.problem else "all is well")])


def _write_facts(facts: Iterable[tuple[str, str]]) -> None:
    for label, text in facts:
        write_line(f"{label:<{_LABEL_WIDTH}}{one_line(text)}")


def _header(report: Report) -> Iterator[tuple[str, str]]:
    yield "model", report.target.name
    yield "folder", str(report.target.folder)
    if report.target.revision:
        yield "revision", report.target.revision
    yield "versions", ", ".join(f"{name} {number}" for name, number in _versions())
    if report.computing is not None:
        yield "computed", f"in {report.computing.dtype} on {report.computing.device}"
    if report.reference is not None:
        yield "reference", str(report.reference)
    if report.unread:
        yield "not read", ", ".join(report.unread)


def _versions() -> Iterator[tuple[str, str]]:
    yield "vlmchat", vlmchat.__version__
    yield "python", f"{platform.python_version()} on {platform.platform()}"
    for name in _PACKAGES:
        try:
            yield name, version(name)
        except PackageNotFoundError:
            yield name, "not installed"


def _audit_lines(report: Report) -> Iterator[tuple[str, str]]:
    if report.audit is not None:
        found = report.audit
        used = found.tensors - len(found.leftovers)
        yield "audit", "ok" if report.refusal is None else "passed, then refused"
        yield "family", found.family
        yield "tensors", f"{found.tensors} in the files: {used} used once, {len(found.leftovers)} known leftovers"
        yield "parameters", f"{found.parameters}, all from the files, none newly initialised"
        yield "stored as", ", ".join(f"{s.dtype} ({s.tensors} tensors, {size_text(s.bytes)})" for s in found.stored)
        for leftover in found.leftovers:
            yield "leftover", f"{leftover.name}: {leftover.reason}"
    if report.refusal is not None:
        yield "refused", report.refusal.message


def _parity_rows(rows: list[Compared]) -> Iterator[tuple[str, ...]]:
    """Yield one row per step: the worst of its cases, and which ones differ."""
    for step in STEPS:
        of_step = [row for row in rows if row.step == step]
        if not of_step:
            continue
        worst = max(of_step, key=lambda row: float("inf") if row.difference is None else row.difference)
        yield step, str(len(of_step)), _number(worst.difference), _number(worst.tolerance), _result(of_step)


def _result(rows: list[Compared]) -> str:
    wrong = [row for row in rows if not row.ok]
    if not wrong:
        return "ok"
    more = f" and {len(wrong) - _NAMED} more" if len(wrong) > _NAMED else ""
    detail = f": {wrong[0].detail}" if wrong[0].detail else ""
    return f"DIFFERS in {', '.join(row.case for row in wrong[:_NAMED])}{more}{detail}"


def _amount(row: Compared) -> str:
    return row.detail or f"{_number(row.difference)} where {_number(row.tolerance)} is allowed"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"
