"""The command line: arguments in, one of the package's doors opened, an exit status out.

Holds no logic that another program might want; `supervisor`, `prepare` and `reference` do.
Called by the script `maitred` and by `python -m maitred`.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from maitred import __version__, log, reference
from maitred.auth.store import Verifiers
from maitred.config import load
from maitred.config.load import COMMAND_LINE, Layer
from maitred.config.schema import SETTINGS
from maitred.errors import ConfigInvalid, EngineRefused
from maitred.prepare import Source, prepare

_OK, _FAILED, _USAGE = 0, 1, 2
# As a shell reports a program that ended by SIGPIPE.
_READER_LEFT = 141


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit status."""
    options = parser().parse_args(arguments)
    try:
        status = int(options.run(options))
        sys.stdout.flush()
    except BrokenPipeError:
        # Why: the reader (`| head`) has what it wanted; at its end Python would flush once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _READER_LEFT
    except ConfigInvalid as error:
        for problem in error.problems:
            print(problem, file=sys.stderr)
        return _FAILED
    except EngineRefused as error:
        print(f"maitred: {error}", file=sys.stderr)
        return _FAILED
    except KeyboardInterrupt:
        return 130
    return status


def parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    top = argparse.ArgumentParser(
        prog="maitred", description="Many database clients on few server connections."
    )
    commands = top.add_subparsers(metavar="COMMAND", required=True)
    _fill_serve(commands.add_parser("serve", help="run the proxy"))
    _fill_check(commands.add_parser("check", help="check a configuration"))
    _fill_demo(commands.add_parser("demo", help="see a thousand clients on ten connections"))
    _fill_doctor(commands.add_parser("doctor", help="try out a live instance from outside"))
    config = commands.add_parser("config", help="print the reference of all settings")
    config.set_defaults(run=_config)
    version = commands.add_parser("version", help="print the version")
    version.set_defaults(run=_version)
    top.add_argument("--version", action="version", version=f"maitred {__version__}")
    return top


def _fill_serve(serve: argparse.ArgumentParser) -> None:
    serve.description = "Run the proxy for one database's URL, or for a configuration file."
    serve.add_argument(
        "url", nargs="?", metavar="URL", help="postgres://user:password@host/name, or mysql://…"
    )
    serve.add_argument("-c", "--config", metavar="FILE", type=Path, help="configuration in TOML")
    serve.add_argument(
        "--listen",
        metavar="ADDR",
        action="append",
        help="listen.postgres, or listen.mysql for the URL of a MySQL server; may be repeated",
    )
    serve.add_argument(
        "--listen-mysql", metavar="ADDR", action="append", help="listen.mysql; may be repeated"
    )
    serve.add_argument("--admin", metavar="ADDR", help='listen.admin; "" for none')
    serve.add_argument("--workers", metavar="N", help="engine.workers")
    serve.add_argument("--backend", choices=SETTINGS["engine.backend"].choices)
    serve.add_argument("--log-format", choices=SETTINGS["log.format"].choices)
    serve.add_argument("--log-level", choices=SETTINGS["log.level"].choices)
    serve.set_defaults(run=_serve)


def _fill_check(check: argparse.ArgumentParser) -> None:
    check.description = "Print every problem with file and line; exit status 1 if there is one."
    check.add_argument("-c", "--config", metavar="FILE", type=Path, required=True)
    check.add_argument("--show", action="store_true", help="print every setting in force")
    check.set_defaults(run=_check)


def _fill_demo(demo: argparse.ArgumentParser) -> None:
    demo.add_argument(
        "--mysql", action="store_true", help="on a private MariaDB, of which mariadbd is installed"
    )
    demo.add_argument("--once", action="store_true", help="end after the report")
    demo.add_argument("--clients", metavar="N", type=int, default=1000)
    demo.add_argument("--seconds", metavar="S", type=float, default=5.0)
    demo.set_defaults(run=_demo)


def _fill_doctor(doctor: argparse.ArgumentParser) -> None:
    kinds = doctor.add_subparsers(metavar="WHAT", required=True)
    isolation = kinds.add_parser(
        "isolation", help="do clients of one pool see each other's session state?"
    )
    isolation.add_argument(
        "url", metavar="URL", help="of maitred: postgres://user:password@host, or mysql://…"
    )
    isolation.add_argument(
        "--lookers", metavar="N", type=int, default=4, help="clients that look for each state"
    )
    isolation.set_defaults(run=_isolation)
    routines = kinds.add_parser(
        "routines", help="which tables and functions should pool.stateful_tables, _functions name?"
    )
    routines.description = (
        "Read what routines, triggers and views do to their session, and print what the"
        " configuration should say of them; exit status 1 if there is something."
    )
    routines.add_argument(
        "url", metavar="URL", help="of the database, for an account that may read their bodies"
    )
    routines.set_defaults(run=_routines)


def source_of(options: argparse.Namespace) -> Source:
    """Return where `serve`'s arguments say that the configuration is.

    Raises:
        ValueError: both or neither of URL and FILE were given; the text says what to write.
    """
    if (options.url is None) == (options.config is None):
        raise ValueError(
            "give either a URL or -c FILE: maitred serve postgres://user@host/name, or mysql://…"
        )
    values: dict[tuple[str, ...], object] = {}
    if options.listen:
        values["listen", load.dialect_of(options.url or "")] = options.listen
    if options.listen_mysql:
        values["listen", "mysql"] = options.listen_mysql
    if options.admin is not None:
        values["listen", "admin"] = options.admin
    if options.workers is not None:
        number = options.workers
        values["engine", "workers"] = int(number) if number.isdigit() else number
    if options.backend:
        values["engine", "backend"] = options.backend
    if options.log_format:
        values["log", "format"] = options.log_format
    if options.log_level:
        values["log", "level"] = options.log_level
    layers = (Layer(COMMAND_LINE, values),) if values else ()
    return Source(file=options.config, url=options.url, layers=layers)


def _serve(options: argparse.Namespace) -> int:
    try:
        source = source_of(options)
    except ValueError as error:
        print(f"maitred serve: {error}", file=sys.stderr)
        return _USAGE
    log.set_up(level="info", form=options.log_format or "text")
    # Why: the other commands must work where the native engine is not built.
    from maitred.supervisor import Supervisor  # noqa: PLC0415

    async def run() -> None:
        await Supervisor(source).run()

    asyncio.run(run())
    return _OK


def _check(options: argparse.Namespace) -> int:
    prepared = prepare(Source(file=options.config), Verifiers())
    for warning in prepared.warnings:
        print(f"{options.config}: warning: {warning}", file=sys.stderr)
    if options.show:
        for one in prepared.config.effective:
            place = f"  # {one.place.file}:{one.place.line}" if one.place else ""
            print(f"{one.name} = {one.value}{place}")
    else:
        count = len(prepared.config.databases)
        print(f"{options.config}: good; {count} database{'' if count == 1 else 's'}")
    return _OK


def _demo(options: argparse.Namespace) -> int:
    # Why: the demo brings databases of its own, which the product does not depend on.
    from maitred.demo import run  # noqa: PLC0415

    status = run(
        once=options.once, clients=options.clients, seconds=options.seconds, mysql=options.mysql
    )
    return int(status)


def _isolation(options: argparse.Namespace) -> int:
    # Why: the doctor's driver is an extra that the product does not depend on.
    from maitred.doctor import DoctorError, examine_url, report  # noqa: PLC0415

    try:
        findings = examine_url(options.url, lookers=max(1, options.lookers))
        print(report(findings))
        return _OK if all(finding.is_good for finding in findings) else _FAILED
    except DoctorError as error:
        print(f"maitred doctor: {error}", file=sys.stderr)
        return _USAGE


def _routines(options: argparse.Namespace) -> int:
    # Why: as above.
    from maitred.doctor import DoctorError, examine_routines, lines_for  # noqa: PLC0415

    try:
        found, unread = examine_routines(options.url)
    except DoctorError as error:
        print(f"maitred doctor: {error}", file=sys.stderr)
        return _USAGE
    print(lines_for(found, unread))
    return _FAILED if found or unread else _OK


def _config(_: argparse.Namespace) -> int:
    print(reference.settings_page())
    return _OK


def _version(_: argparse.Namespace) -> int:
    print(f"maitred {__version__}")
    return _OK


if __name__ == "__main__":
    raise SystemExit(main())
