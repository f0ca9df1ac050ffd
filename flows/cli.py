"""The command line. Everything heavy is imported by the command that needs it."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from pipeline import __version__
from pipeline.errors import AuditError

SOUND, NOT_SOUND, COULD_NOT_RUN = 0, 1, 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns
    -------
    int
        0: it ran (and an audited model was found sound); 1: an audit ran, flagged or inconclusive, or
        `check` and `verify` found something; 2: it could not run, and one line on standard error says why.
    """
    options = _parser().parse_args(arguments)
    if options.command in _COMPUTING:
        from pipeline.allocator import keep_freed_memory

        keep_freed_memory()
    try:
        return _COMMANDS[options.command](options)
    except AuditError as error:
        print(f"relevance-audit: {error}", file=sys.stderr)  # noqa: T201
        return COULD_NOT_RUN
    except KeyboardInterrupt:
        print("relevance-audit: interrupted; run the same command again to go on", file=sys.stderr)  # noqa: T201
        return COULD_NOT_RUN
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return COULD_NOT_RUN
    except OSError as error:
        if os.environ.get("RELEVANCE_AUDIT_DEBUG"):
            raise
        print(f"relevance-audit: {_of_the_system(error)}", file=sys.stderr)  # noqa: T201
        return COULD_NOT_RUN
    except Exception as error:
        if os.environ.get("RELEVANCE_AUDIT_DEBUG"):
            raise
        text = " ".join(str(error).split())[:300]
        hint = "this is a defect: set RELEVANCE_AUDIT_DEBUG=1 to see where, and report it"
        print(f"relevance-audit: unexpected {type(error).__name__}: {text}; {hint}", file=sys.stderr)  # noqa: T201
        return COULD_NOT_RUN


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Refuse in one line, as every other refusal."""
        self.exit(COULD_NOT_RUN, f"relevance-audit: {message}; see `{self.prog} --help`\n")


def _of_the_system(error: OSError) -> str:
    """Say what the operating system refused, e.g. a full disk or a folder that may not be written."""
    place = f"{error.filename}: " if error.filename else ""
    return f"{place}{error.strerror or error}; check the path, its permissions and the space on the disk"


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="relevance-audit",
        description="Why does a CNN call a brain 'Alzheimer' or a retina 'diabetic'? Lesion or shortcut?",
        epilog="Exit code 0: sound, or done; 1: flagged, inconclusive, or something found; 2: could not run.",
    )
    parser.add_argument("--version", action="version", version=f"relevance-audit {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    run = commands.add_parser("run", help="audit the cohort of a protocol; run again to go on after a stop")
    run.add_argument("protocol", type=Path, metavar="PROTOCOL.yaml")
    run.add_argument("--out", type=Path, required=True, metavar="DIR", help="the audit directory")

    demo = commands.add_parser("demo", help="audit both reference models on phantoms")
    demo.add_argument("--out", type=Path, required=True, metavar="DIR")
    demo.add_argument("--cases", type=int, default=24, metavar="N", help="phantoms in each cohort (24)")

    explain = commands.add_parser("explain", help="one relevance map of one image")
    explain.add_argument("--model", required=True, help="bundle folder, TorchScript file, or reference model")
    explain.add_argument("--image", type=Path, required=True)
    explain.add_argument("--method", required=True, metavar="NAME", help="see `relevance-audit methods`")
    explain.add_argument("--target", required=True, help="class index, class name, or top-3")
    where = explain.add_mutually_exclusive_group()
    where.add_argument("--regions", type=Path, metavar="FILE", help="label image on the image's grid")
    where.add_argument("--atlas", metavar="NAME", help="see `relevance-audit atlases`; photographs: ETDRS")
    explain.add_argument(
        "--option", action="append", default=[], metavar="KEY=VALUE", help="option of the method"
    )
    explain.add_argument("--out", type=Path, required=True, metavar="DIR")

    check = commands.add_parser("check", help="everything a run would refuse, before it runs")
    check.add_argument("protocol", type=Path, metavar="PROTOCOL.yaml")

    report = commands.add_parser("report", help="render the PDF of an audit directory again")
    report.add_argument("folder", type=Path, metavar="DIR")

    verify = commands.add_parser("verify", help="has anything in an audit directory changed since the run?")
    verify.add_argument("folder", type=Path, metavar="DIR")

    commands.add_parser("methods", help="attribution methods and what they need")
    commands.add_parser("atlases", help="parcellations, their space and licence")

    serve = commands.add_parser("serve", help="run a protocol on a schedule until stopped")
    serve.add_argument("protocol", type=Path, metavar="PROTOCOL.yaml")
    serve.add_argument("--cron", required=True, metavar="'M H D M W'", help="when, as cron writes it")
    serve.add_argument(
        "--out", type=Path, default=Path("audits"), metavar="DIR", help="one folder a run in here"
    )
    return parser


def _run(options: argparse.Namespace) -> int:
    from flows.audit import run_audit

    verdict = run_audit(options.protocol, options.out)
    _say(verdict.sentence)
    _say(f"Report: {options.out / 'report.pdf'}")
    return SOUND if verdict.answer == "sound" else NOT_SOUND


def _demo(options: argparse.Namespace) -> int:
    from flows.demo import run_demo

    for report in run_demo(options.out, options.cases):
        _say(f"Report: {report}")
    return SOUND


def _explain(options: argparse.Namespace) -> int:
    from flows.explain import explain

    for line in explain(
        model=options.model,
        image=options.image,
        method=options.method,
        target=options.target,
        regions=options.regions,
        atlas=options.atlas,
        options=options.option,
        out=options.out,
    ):
        _say(line)
    return SOUND


def _check(options: argparse.Namespace) -> int:
    from flows.checking import check_protocol

    problems = check_protocol(options.protocol)
    for problem in problems:
        _say(problem)
    _say(f"{len(problems)} problem{'s' * (len(problems) != 1)}" if problems else "No problem found")
    return NOT_SOUND if problems else SOUND


def _report(options: argparse.Namespace) -> int:
    from flows.audit import render_again

    _say(f"Report: {render_again(options.folder)}")
    return SOUND


def _verify(options: argparse.Namespace) -> int:
    from pipeline.record.schema import verify

    lines = verify(options.folder)
    for line in lines:
        _say(line)
    _say(f"{len(lines)} difference{'s' * (len(lines) != 1)}" if lines else "Nothing changed since the run")
    return NOT_SOUND if lines else SOUND


def _methods(_: argparse.Namespace) -> int:
    from flows.listing import method_lines

    for line in method_lines():
        _say(line)
    return SOUND


def _atlases(_: argparse.Namespace) -> int:
    from flows.listing import atlas_lines

    for line in atlas_lines():
        _say(line)
    return SOUND


def _serve(options: argparse.Namespace) -> int:
    from flows.serving import serve_protocol

    serve_protocol(options.protocol, options.cron, options.out)
    return SOUND


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201


_COMPUTING = frozenset({"run", "demo", "explain"})
"""Commands that compute in this process; `serve` starts one for each run."""
_COMMANDS = {
    "run": _run,
    "demo": _demo,
    "explain": _explain,
    "check": _check,
    "report": _report,
    "verify": _verify,
    "methods": _methods,
    "atlases": _atlases,
    "serve": _serve,
}

if __name__ == "__main__":
    sys.exit(main())
