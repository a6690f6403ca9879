"""The `veracity` command: one front door to every service and to the two tools for looking and trying.

Only arguments are read here; what a command does lives in the module it names, imported when it is asked for.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from shared import logs
from shared.errors import StartupFailed, VeracityError
from shared.settings import ServiceSettings, load

app = typer.Typer(
    help="Live trends, stories and trust scores: NATS in, one WebSocket per browser out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

S = TypeVar("S", bound=ServiceSettings)


def main() -> None:
    """Run the command; errors of ours are one line on standard error, not a stack trace."""
    try:
        app()
    except* VeracityError as group:
        for error in _leaves(group):
            sys.stderr.write(f"veracity: {error}\n")
        sys.exit(1)


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    return [
        leaf
        for error in group.exceptions
        for leaf in (_leaves(error) if isinstance(error, BaseExceptionGroup) else [error])
    ]


def _serve(name: str, settings_type: type[S], run: Callable[[S], Coroutine[Any, Any, None]]) -> None:
    settings = load(settings_type)
    logs.configure(name, settings.log_level, settings.log_format)
    asyncio.run(run(settings))


@app.command()
def gateway() -> None:
    """Serve browsers: WebSockets in, NATS subjects on demand. Settings: VERACITY_* (see README)."""
    from services.gateway.app import run
    from services.gateway.settings import GatewaySettings

    _serve("gateway", GatewaySettings, run)


@app.command()
def ingest(
    feeds: Annotated[
        Path | None, typer.Option(envvar="VERACITY_FEEDS", help="TOML file with [[feed]] tables to read.")
    ] = None,
    replay: Annotated[
        Path | None, typer.Option(envvar="VERACITY_REPLAY", help="CSV or JSONL file to replay instead.")
    ] = None,
    speed: Annotated[
        float,
        typer.Option(
            envvar="VERACITY_REPLAY_SPEED", min=0, help="Seconds of the file in one of ours; 0: as fast as it is taken."
        ),
    ] = 1.0,
    loop: Annotated[bool, typer.Option(envvar="VERACITY_REPLAY_LOOP", help="Begin again at the end.")] = False,
    columns: Annotated[
        list[str] | None,
        typer.Option("--map", help="Which column is what, such as title=slug_title."),
    ] = None,
    platform: Annotated[str, typer.Option(help="Platform of the file's items, where no column says it.")] = "",
    simulate: Annotated[
        bool, typer.Option(envvar="VERACITY_SIMULATE", help="Invented news by invented outlets, marked as simulated.")
    ] = False,
    once: Annotated[bool, typer.Option(help="End when the replay is at its end.")] = False,
) -> None:
    """Read sources, make items of what they say, store each once. Also takes items by POST /api/v1/items."""
    from services.publisher import ingest as role
    from services.publisher.settings import IngestSettings
    from services.publisher.sources.replay import Replay

    file = None if replay is None else Replay(replay, speed, loop, _pairs(columns or []), platform)
    _serve(
        "ingest",
        IngestSettings,
        lambda settings: role.run(settings, replay=file, simulate=simulate, feeds=feeds, once=once),
    )


def _pairs(given: list[str]) -> dict[str, str]:
    pairs = {}
    for pair in ",".join(given).split(","):
        if not pair:
            continue
        name, equals, column = pair.partition("=")
        if not equals or not column:
            raise StartupFailed(f"--map takes pairs such as title=slug_title, not {pair!r}")
        pairs[name.strip()] = column.strip()
    return pairs


@app.command()
def trends() -> None:
    """Make trends of items. One process works, further ones stand by."""
    from services.publisher.settings import TrendSettings
    from services.publisher.trends import run

    _serve("trends", TrendSettings, run)


@app.command()
def stories() -> None:
    """Make stories of items. One process works, further ones stand by."""
    from services.publisher.settings import StorySettings
    from services.publisher.stories import run

    _serve("stories", StorySettings, run)


@app.command()
def scoring() -> None:
    """Score how far each story can be trusted. Any number of processes share the work."""
    from services.scoring.scorer import run
    from services.scoring.settings import ScoringSettings

    _serve("scoring", ScoringSettings, run)


@app.command()
def evaluate(
    what: Annotated[str, typer.Argument(help="stories, trends or trust")],
    data: Annotated[
        Path,
        typer.Argument(help="A CSV file with labels or times; for trust the folder of the label sets."),
    ],
    plot: Annotated[Path | None, typer.Option(help="Draw it, too (PNG).")] = None,
    fit: Annotated[bool, typer.Option(help="trust: fit the headline model first and write it.")] = False,
) -> None:
    """Measure the producers against labelled data."""
    if what == "trust":
        from services.scoring import evaluate as trust

        results = trust.evaluate(data, fit=fit)
        typer.echo(trust.table(results))
        if plot is not None:
            trust.draw(results, plot)
        return
    from services.publisher import evaluate as producers

    if what == "stories":
        clusterings = producers.evaluate_stories(data)
        typer.echo(producers.story_table(clusterings))
        if plot is not None:
            producers.draw_stories(clusterings, plot)
    elif what == "trends":
        bursts, by_day = producers.evaluate_trends(data)
        typer.echo(producers.trend_table(bursts, by_day))
        if plot is not None:
            producers.draw_trends(bursts, plot)
    else:
        raise StartupFailed(f"nothing called {what!r} can be evaluated: stories, trends or trust")


@app.command()
def tail(
    channels: Annotated[list[str], typer.Argument(help="trends, stories, story:<id>, trust_scores, user:<id>")],
    url: Annotated[
        str, typer.Option(envvar="VERACITY_GATEWAY_URL", help="The gateway.")
    ] = "ws://127.0.0.1:8000/api/v1/ws/connect",
    json_lines: Annotated[
        bool | None,
        typer.Option("--json/--text", help="JSON lines or readable ones; by default as output goes."),
    ] = None,
    count: Annotated[int, typer.Option(min=0, help="End after this many events; 0: never.")] = 0,
) -> None:
    """Show what happens on channels, one line an event; reconnects by itself."""
    from services import tail as tool

    as_json = not sys.stdout.isatty() if json_lines is None else json_lines
    asyncio.run(tool.tail(url, channels, as_json=as_json, count=count))


@app.command()
def publish(
    channel: Annotated[str, typer.Argument(help="trends, story:<id>, trust_scores or user:<id>")],
    file: Annotated[str, typer.Argument(help="JSON message, or one a line; - for standard input")],
) -> None:
    """Check messages against the models and publish them, acknowledged and without repeats."""
    from services import publish as tool

    settings = load(ServiceSettings)
    logs.configure("publish", "warning", settings.log_format)
    text = sys.stdin.buffer.read() if file == "-" else _content(Path(file))
    for line in asyncio.run(tool.publish(settings, channel, text)):
        typer.echo(line)


@app.command()
def setup() -> None:
    """Make and change streams and buckets, then end: for services that may not (VERACITY_MANAGE_STREAMS=false)."""
    from services import setup as tool
    from services.publisher.settings import RoleSettings

    settings = load(RoleSettings)
    logs.configure("setup", settings.log_level, settings.log_format)
    asyncio.run(tool.run(settings))


@app.command("disconnect-user")
def disconnect_user(user_id: Annotated[str, typer.Argument(help="The `sub` of the tokens.")]) -> None:
    """Disconnect a user on every gateway at once and refuse the tokens issued until now."""
    from shared.connection import once
    from shared.revocation import revoke

    settings = load(ServiceSettings)
    logs.configure("disconnect-user", "warning", settings.log_format)
    asyncio.run(once(settings, lambda connection: revoke(connection, user_id)))
    typer.echo(f"{user_id} is disconnected; tokens issued before now are refused")


@app.command("api-key")
def api_key() -> None:
    """Make a key for POST /api/v1/items: give the key to the client, the hash to VERACITY_INGEST_API_KEYS."""
    from services.publisher.sources.keys import new_key

    key, digest = new_key()
    typer.echo(f"key   {key}\nhash  {digest}")


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise StartupFailed(f"{path} cannot be read: {error.strerror}") from error


@app.command()
def local(
    replay: Annotated[Path | None, typer.Option(help="CSV or JSONL file to replay instead of reading feeds.")] = None,
    speed: Annotated[float, typer.Option(min=0, help="Seconds of the file in one of ours; 0: no waiting.")] = 600.0,
    loop: Annotated[bool, typer.Option(help="Begin the replay again at its end.")] = False,
    simulate: Annotated[bool, typer.Option(help="Simulated newsroom only.")] = False,
) -> None:
    """Run everything on this machine, broker included (what `make run` does)."""
    from services import local as machine

    raise typer.Exit(machine.run(replay=replay, speed=speed, loop=loop, simulate=simulate))


if __name__ == "__main__":
    main()
