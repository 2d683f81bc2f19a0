"""Write the reference pages out of the code's own tables.

Only words and layout: what is said comes from `schema`, `catalog`, `commands` and `errors`.
Run as `python -m maitred.reference [FOLDER]`; a rule test compares the pages with this.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from maitred import errors
from maitred.admin.commands import COMMANDS, who
from maitred.config.read import allowed
from maitred.config.schema import SECTIONS
from maitred.config.setting import Kind, Scope, Setting
from maitred.config.units import DURATIONS_MS, SIZES
from maitred.errors import CLIENT_ERRORS, MYSQL_NUMBERS, MaitredError
from maitred.metrics.catalog import CATALOG, Metric

_MADE = "<!-- Written by `python -m maitred.reference`; change the tables in the code instead. -->"


def settings_page() -> str:
    """Every setting."""
    return _page("Settings", _settings())


def metrics_page() -> str:
    """Every metric."""
    return _page("Metrics", _metrics())


def console_page() -> str:
    """Every console command."""
    return _page("Console", _console())


def errors_page() -> str:
    """Every error."""
    return _page("Errors", _errors())


PAGES = {
    "settings.md": settings_page,
    "metrics.md": metrics_page,
    "console.md": console_page,
    "errors.md": errors_page,
}


def _page(title: str, lines: Iterable[str]) -> str:
    return "\n".join([f"# {title}", "", _MADE, "", *lines]).rstrip() + "\n"


def _settings() -> Iterator[str]:
    yield (
        "The file is TOML. A duration is a text with its unit"
        f" ({', '.join(DURATIONS_MS)}), a size too ({', '.join(SIZES)}); a bare number is refused,"
        " except 0. Relative paths start at the file's folder. `env:NAME` and `file:PATH` are"
        " followed in passwords and URLs. The file, the certificates and the userlist are watched;"
        " a change is taken up at once, all or nothing, unless a restart is noted."
        " `maitred check -c FILE` lists every mistake with its line; `--show` prints what is in"
        " force."
    )
    yield ""
    yield (
        "Settings *for all* may be set again in `[databases.NAME]` or `[users.NAME]` where that is"
        " noted: `pool.size` there, and `tls.mode` for `tls.server.mode`. A user's value wins over"
        " a database's, and that over the one for all. The database `*` stands for any name."
    )
    for title, rows in SECTIONS:
        yield from ("", f"## {title}")
        for setting in rows:
            yield from _setting(setting)


def _setting(setting: Setting) -> Iterator[str]:
    yield from ("", f"### `{setting.name}`", "", setting.meaning, "")
    yield f"- Value: {_value(setting)}"
    if setting.default is not None:
        default = setting.show(setting.default_value)
        yield f"- Default: {f'`{default}`' if default else 'empty'}"
    if setting.zero:
        yield f"- 0: {setting.zero}"
    if Scope.GLOBAL in setting.scopes:
        yield f"- Where: {', '.join(_scope(setting, scope) for scope in setting.scopes)}"
    if setting.neighbour:
        yield f"- See: {setting.neighbour}"
    if setting.pgbouncer:
        yield f"- PgBouncer: {setting.pgbouncer}"
    if not setting.reloadable:
        yield "- Changes only by a restart."


def _scope(setting: Setting, scope: Scope) -> str:
    if scope is Scope.GLOBAL:
        return scope.value
    name = next(name for name, one in allowed(scope).items() if one is setting)
    return f"`{scope.value}`" + (f" as `{name}`" if name != setting.name else "")


def _value(setting: Setting) -> str:
    if setting.kind in (Kind.CHOICE, Kind.CHOICES):
        return setting.kind.value + " " + ", ".join(f"`{choice}`" for choice in setting.choices)
    if setting.kind in (Kind.DURATION, Kind.SECONDS, Kind.SIZE, Kind.COUNT, Kind.PERCENT):
        least, most = setting.show(setting.least), setting.show(setting.upper_bound)
        return f"{setting.kind.value}, {least} to {most}"
    return setting.kind.value


def _metrics() -> Iterator[str]:
    yield (
        "Served at `listen.admin` under `/metrics`, in Prometheus' text format or OpenMetrics as"
        " the scraper asks. Times are in seconds, sizes in bytes. The process' memory, CPU time and"
        " descriptors come along as `process_*`."
    )
    for title, metrics in CATALOG:
        yield from ("", f"## {title}", "", "| Name | Type | Unit | Labels | Meaning |")
        yield "| --- | --- | --- | --- | --- |"
        for metric in _merged(metrics):
            labels = ", ".join(
                f"`{label}`" if " " not in label else label for label in metric.labels
            )
            states = _states(metric, metrics)
            meaning = f"{metric.meaning}{f' States: {states}.' if states else ''}"
            yield (
                f"| `{metric.name}` | {metric.sort.value} | {metric.unit} | {labels} | {meaning} |"
            )


def _merged(metrics: Iterable[Metric]) -> Iterable[Metric]:
    return {metric.name: metric for metric in metrics}.values()


def _states(metric: Metric, metrics: Iterable[Metric]) -> str:
    return ", ".join(one.state for one in metrics if one.name == metric.name and one.state)


def _console() -> Iterator[str]:
    yield (
        "The console is a database by the names of `console.names`, for clients of both protocols:"
        " `psql -h 127.0.0.1 -p 6432 maitred`, `mariadb -h 127.0.0.1 -P 6033 maitred`."
        " Users with `admin` may use every command, users with"
        " `stats` the SHOW commands. Keywords may be written in either case, one command at a time."
        " The columns that PgBouncer has come first, under its names and in its order; `SELECT"
        " pools` is taken for `SHOW POOLS`. Only simple queries are taken, nothing is prepared."
    )
    yield from ("", "| Command | Who | Meaning |", "| --- | --- | --- |")
    for command in COMMANDS.values():
        syntax = command.syntax.replace("|", "\\|")
        yield f"| `{syntax}` | {who(command)} | {command.meaning} |"


def _errors() -> Iterator[str]:
    yield (
        "Each request ends with the database's answer or with an error that carries an SQLSTATE,"
        " and for MySQL clients a number. An error of the database itself is passed on as it is."
        " What follows is what maitred says on its own; MySQL's errors have one text, so details"
        " and advice stand behind it."
    )
    yield from ("", "## What clients see", "")
    yield (
        "| SQLSTATE | MySQL | Name | Meaning | Whose fault | What to change | Retry | The client |"
    )
    yield "| --- | --- | --- | --- | --- | --- | --- | --- |"
    for one in CLIENT_ERRORS:
        number, state = MYSQL_NUMBERS[one.kind]
        yield (
            f"| {one.sqlstate} | {number} ({state}) | {one.kind} | {one.meaning} | {one.fault}"
            f" | {one.change} | {one.retry} | {one.closes} |"
        )
    yield from ("", "## What operators see")
    for error in _exceptions(MaitredError):
        yield from ("", f"### {error.code}", "", f"`maitred.errors.{error.__name__}`.", "")
        text = inspect.getdoc(error) or ""
        yield re.sub(r"\n(?=(Whose fault|What the client sees|Retry):)", "\n- ", text)


def _exceptions(kind: type[MaitredError]) -> Iterator[type[MaitredError]]:
    for one in kind.__subclasses__():
        if one.__module__ == errors.__name__:
            yield one
            yield from _exceptions(one)


def write(folder: Path) -> None:
    """Write all pages into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, page in PAGES.items():
        (folder / name).write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1] if len(sys.argv) > 1 else "docs/reference"))
