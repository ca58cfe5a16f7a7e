"""Runs benchmarks and prints their tables; exits with 1 where a limit is broken."""

import argparse
import dataclasses
import importlib
import json
import pkgutil
import sys

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from quicpipe_lab.errors import BackendUnavailableError
from tests import bench
from tests.bench import Row


def main(arguments: list[str]) -> int:
    names = sorted(module.name for module in pkgutil.iter_modules(bench.__path__))
    names = [name for name in names if not name.startswith("_")]
    parser = argparse.ArgumentParser(prog="lab bench", description="Run benchmarks.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(names))
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object and nothing else"
    )
    options = parser.parse_args(arguments)
    for name in options.names:
        if name not in names:
            parser.error(f"there is no benchmark {name!r}; there are {', '.join(names)}")

    tables: dict[str, tuple[str, list[Row]]] = {}
    for name in options.names or names:
        module = importlib.import_module(f"tests.bench.{name}")
        try:
            rows: list[Row] = module.run()
        except BackendUnavailableError as error:
            rows = [bench.skipped(name, str(error))]
        tables[name] = (module.TITLE, rows)
        if not options.json:
            _print(name, module.TITLE, rows)
    if options.json:
        print(json.dumps({name: _as_json(*table) for name, table in tables.items()}))
    return 0 if all(row.ok for _, rows in tables.values() for row in rows) else 1


def _print(name: str, title: str, rows: list[Row]) -> None:
    table = Table("", "value", "ratio", "limit", "", title=f"{name}: {title}", title_justify="left")
    for column in table.columns[1:4]:
        column.justify = "right"
    for row in rows:
        ratio = "" if row.ratio is None else f"{row.ratio:.3g} of {row.against}"
        verdict = "" if row.limit is None or row.value is None else "ok" if row.ok else "TOO MUCH"
        table.add_row(
            escape(row.what),
            "" if row.value is None else f"{row.value:.4g} {row.unit}".rstrip(),
            escape(ratio),
            "" if row.limit is None else f"{row.limit:g}",
            escape(" ".join(filter(None, (verdict, row.note)))),
        )
    Console().print(table)


def _as_json(title: str, rows: list[Row]) -> dict[str, object]:
    return {"title": title, "rows": [{**dataclasses.asdict(row), "ok": row.ok} for row in rows]}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
