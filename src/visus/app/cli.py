"""The command line, made from the signatures and docstrings of the public functions, so that the two cannot drift."""

from __future__ import annotations

import errno
import inspect
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from visus.app import api
from visus.app.api import STUDIES
from visus.app.progress import on_stderr
from visus.app.streams import abandon, console, last_words, prepare
from visus.errors import VisusError
from visus.version import __version__

CONTEXT = {"help_option_names": ["-h", "--help"]}
INTERRUPTED = 130
# What typer raises for a wrong command line; click's own class or that of the click that typer carries, by its version.
UsageError: Any = typer.BadParameter.__base__

app = typer.Typer(
    name="visus",
    help="Measure what a vision model has learned: one command, trusted numbers, one page.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings=CONTEXT,
    rich_markup_mode=None,
)


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False) -> None:
    if version:
        typer.echo(f"visus {__version__}")
        raise typer.Exit


def arguments_help(docstring: str) -> tuple[str, dict[str, str]]:
    """Split a docstring into its text above 'Arguments:' and the help of each argument."""
    text, _, rest = inspect.cleandoc(docstring).partition("\nArguments:\n")
    helps: dict[str, str] = {}
    name = ""
    for line in rest.splitlines():
        if line and not line.startswith(" "):
            break
        if start := re.match(r"    (\w+): (.*)", line):
            name = start[1]
            helps[name] = start[2]
        elif name and line.strip():
            helps[name] += " " + line.strip()
    return text.strip(), helps


def command(name: str) -> Callable[..., None]:
    """The Typer command of one study: its signature with help from its docstring, plus --json."""
    door = getattr(api, name)
    text, helps = arguments_help(door.__doc__ or "")
    parameters = []
    for parameter in inspect.signature(door).parameters.values():
        # Only builtins stand in these signatures, so that evaluating them needs no import.
        kind = (
            eval(parameter.annotation, {"Any": Any}) if isinstance(parameter.annotation, str) else parameter.annotation
        )
        flag = "--" + parameter.name.replace("_", "-")
        default = parameter.default
        if parameter.name == "out":
            default = f"visus-out/{name}"
        if default is inspect.Parameter.empty:
            info: Any = typer.Argument(
                help=helps.get(parameter.name), metavar="PATH..." if kind == list[str] else parameter.name.upper()
            )
        elif kind is bool:
            info = typer.Option(f"{flag}/--no-{flag[2:]}" if default else flag, help=helps.get(parameter.name))
        else:
            info = typer.Option(
                flag, help=helps.get(parameter.name, "folder for the page, tables, figures and result.json.")
            )
        parameters.append(
            inspect.Parameter(
                parameter.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, info]
            )
        )
    as_json = Annotated[bool, typer.Option("--json", help="print result.json on stdout, and nothing else.")]
    parameters.append(inspect.Parameter("as_json", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=as_json))

    def run(*, as_json: bool, **arguments: Any) -> None:
        execute(door, as_json=as_json, arguments=arguments)

    run.__name__, run.__doc__ = name, text
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    return run


def execute(door: Callable[..., Any], *, as_json: bool, arguments: dict[str, Any]) -> None:
    try:
        with on_stderr():
            result = door(**arguments)
    except KeyboardInterrupt:
        # Caught here: further out Typer would turn it into a bare "Aborted!" with exit code 1.
        sys.stderr.write("visus: interrupted; what was finished is kept, run the same command again to go on\n")
        raise typer.Exit(INTERRUPTED) from None
    try:
        _show(result, Path(arguments["out"]) / "index.html", as_json=as_json)
    except BrokenPipeError:
        # Caught here: Typer would turn it into exit code 1, and a reader that has gone (head) is no error.
        abandon()


def _show(result: Any, page: Path, *, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(result.to_json(ascii_only=True) + "\n")
    else:
        terminal = console()
        terminal.print(result)
        terminal.print(f"the page: {page.resolve()}", markup=False, highlight=False, soft_wrap=True)
    sys.stdout.flush()


for _name in STUDIES:
    app.command(_name, context_settings=CONTEXT)(command(_name))


def main() -> None:
    """Run the command line. A user's error is one line on stderr and exit code 2; a reader of stdout that has gone (head) is none."""
    prepare()
    try:
        sys.exit(app(standalone_mode=False) or 0)
    except UsageError as error:
        if len(sys.argv) < 2:  # nothing was asked: the help
            error.show()
        else:
            path = error.ctx.command_path if error.ctx is not None else "visus"
            last_words(f"{' '.join(error.format_message().split()).rstrip('.')}; see {path} --help")
        sys.exit(2)
    except VisusError as error:
        last_words(" ".join(str(error).split()))
        sys.exit(2)
    except BrokenPipeError:
        abandon()
        sys.exit(0)
    except OSError as error:
        if error.errno != errno.ENOSPC or error.filename is not None:
            raise
        abandon()
        last_words("stdout cannot be written, its disk is full; free some space, or send it elsewhere")
        sys.exit(2)


if __name__ == "__main__":
    main()
