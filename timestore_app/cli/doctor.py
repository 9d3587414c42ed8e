"""``timestore doctor``: what is wrong here, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import click

from timestore_app.checks import Finding, Level, directory_checks, machine_checks, server_checks
from timestore_app.cli import EXIT_FAILED
from timestore_app.cli.options import Server, server_options
from timestore_app.cli.output import Output, output_options
from timestore_app.settings import Settings, SettingsError

_MARKS = {Level.OK: "ok", Level.WARNING: "warning", Level.PROBLEM: "PROBLEM"}


@click.command(short_help="Check this machine, a data directory or a server.")
@click.option("--data-dir", type=click.Path(path_type=Path), help="Check this data directory; default: the user's.")
@click.option("--config", type=click.Path(path_type=Path), help="A TOML file with settings of the server.")
@click.option("--server", "only_server", is_flag=True, help="Check only the server at --url.")
@server_options
@output_options
@click.pass_context
def doctor(
    ctx: click.Context, data_dir: Path | None, config: Path | None, only_server: bool, server: Server, output: Output
) -> None:
    """Check versions, disk, catalog, storage, clock and limits, and say what to do about each problem.

    Without --url it looks at this machine and the data directory, and starts the embedded catalog for a moment unless a
    server runs on it; with --url (or --server) it asks the server.
    """
    asked = ctx.get_parameter_source("url") is click.core.ParameterSource.COMMANDLINE
    findings: list[Finding] = []
    for finding in _findings(data_dir, config, server, asks_server=only_server or asked):
        findings.append(finding)
        if not output.as_json:
            click.echo(f"{_MARKS[finding.level]:<8} {finding.what}: {finding.found}")
            if finding.advice:
                click.echo(f"{'':<8} -> {finding.advice}")
    problems = sum(finding.level is Level.PROBLEM for finding in findings)
    if output.as_json:
        output.document({"ok": not problems, "checks": [finding.as_json() for finding in findings]})
    if problems:
        ctx.exit(EXIT_FAILED)


def _findings(data_dir: Path | None, config: Path | None, server: Server, *, asks_server: bool) -> Iterator[Finding]:
    if asks_server:
        yield from server_checks(server.url, server.connect)
        return
    try:
        settings = Settings.load(config, {"data_dir": data_dir} if data_dir is not None else {})
    except SettingsError as exc:
        yield Finding(level=Level.PROBLEM, what="settings", found=str(exc), advice="correct them")
        return
    yield from machine_checks(settings)
    yield from directory_checks(settings, replace(server, deadline_s=0.0).connect)
