"""DuckDB and pandas read our files and are held against our own search.

    LLM_PROXY=path/to/llm-proxy DATA_DIR=a/data/directory PAGE=docs/files.md python run.py

The examples for DuckDB and pandas are taken from the page and run as they stand there. Prints one line a
case and `N passed, N failed` at the end; the exit status is 0 if none failed.
"""

import collections
import csv
import decimal
import io
import json
import os
import re
import subprocess
import sys
import traceback

import duckdb
import pandas
import pyarrow.parquet

CASES = []


def case(function):
    CASES.append(function)
    return function


class World:
    """The files, our own answers, and the page's examples by heading."""

    def __init__(self, environment):
        self.binary = environment["LLM_PROXY"]
        # The examples call it by its name.
        environment["PATH"] = os.path.dirname(self.binary) + os.pathsep + environment["PATH"]
        with open(environment["PAGE"], encoding="utf-8") as page:
            self.page = page.read()
        self.files = self.own("files", "--stream", "record", "--since", "7d").splitlines()
        assert self.files, "no files are listed"

    def own(self, *words, status=0):
        command = [self.binary, "logs", *words]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert done.returncode == status, f"{command}: {done.returncode}: {done.stderr}"
        return done.stdout

    def search(self, *words):
        return self.own("search", "--stream", "record", "--since", "7d", *words)

    def count(self, *query):
        return int(self.search("--count", "--", *query))

    def stats(self, stats):
        """Our table, as a dictionary from the group to its row."""
        rows = csv.DictReader(io.StringIO(self.search("-o", "csv", "--limit", "0", "--stats", stats)))
        key = rows.fieldnames[0]
        return {row[key]: row for row in rows}

    def example(self, heading):
        """Runs the Python of a section of the page; returns the names that it made."""
        section = re.split(r"(?m)^## ", self.page)
        section = next(part for part in section if part.startswith(heading + "\n"))
        blocks = re.findall(r"(?ms)^```python\n(.*?)^```", section)
        assert blocks, f"the page has no example for {heading}"
        names = {}
        for block in blocks:
            exec(compile(block, f"docs/files.md: {heading}", "exec"), names)
        return names


def same(ours, theirs, what):
    assert ours == theirs, f"{what}: ours {ours}, theirs {theirs}"


@case
def duckdb_example_agrees(world):
    names = world.example("DuckDB")
    ours = world.stats("count, sum(cost_usd), sum(total_tokens), p95(duration_ms) by model")
    rows = names["by_model"].fetchall()
    same(len(ours), len(rows), "models")
    for model, requests, cost, tokens, p95 in rows:
        own = ours[model or ""]
        same(int(own["count"]), requests, f"requests of {model}")
        same(decimal.Decimal(own["sum(cost_usd)"] or 0), cost or 0, f"cost of {model}")
        same(int(own["sum(total_tokens)"] or 0), tokens or 0, f"tokens of {model}")
        # The quantile of ours may be a sketch.
        assert abs(float(own["p95(duration_ms)"]) - float(p95)) <= 0.02 * float(p95), (model, own, p95)
    teams = dict(names["by_team"].fetchall())
    ours = world.stats("sum(cost_usd) by labels.team")
    for team, cost in teams.items():
        same(decimal.Decimal(ours[team or ""]["sum(cost_usd)"] or 0), cost or 0, f"cost of team {team}")


@case
def pandas_example_agrees(world):
    names = world.example("pandas")
    frame = names["frame"]
    same(world.count(), len(frame), "records")
    for outcome, count in names["failed"].items():
        same(world.count(f"outcome:{outcome}"), count, outcome)
    ours = world.stats("sum(cost_usd), sum(total_tokens) by project")
    for project, rows in frame.groupby("project"):
        own = ours[project]
        same(decimal.Decimal(own["sum(cost_usd)"] or 0), sum(rows["cost_usd"].dropna()), f"cost of {project}")
        same(int(own["sum(total_tokens)"] or 0), int(rows["total_tokens"].sum()), f"tokens of {project}")


@case
def counts_agree_on_filters(world):
    records = duckdb.read_parquet(world.files, union_by_name=True, hive_partitioning=False)
    for query, condition in [
        ("status_code>=500", "status_code >= 500"),
        ("provider:anthropic stream_response:true", "provider = 'anthropic' AND stream_response"),
        ("model:gpt-4o*", "model LIKE 'gpt-4o%'"),
        ("-outcome:ok", "outcome <> 'ok'"),
        ("cost_usd>0.05", "cost_usd > 0.05"),
        ("duration_ms>=2500 OR attempts>1", "duration_ms >= 2500 OR attempts > 1"),
        ("end_user:*", "end_user IS NOT NULL"),
        ("labels.env:staging", "labels['env'] = 'staging'"),
        ("error:/maximum context/", "error LIKE '%maximum context%'"),
    ]:
        theirs = records.filter(condition).count("*").fetchall()[0][0]
        assert theirs > 0, f"no record meets {condition}"
        same(world.count(query), theirs, query)


@case
def every_column_holds_what_the_lines_say(world):
    lines = {}
    for line in world.search("-o", "json", "--limit", "0").splitlines():
        line = json.loads(line)
        lines[line["record_id"]] = line
    rows = pyarrow.parquet.ParquetDataset(world.files).read().to_pylist()
    same(len(lines), len(rows), "records")
    seen = collections.Counter()
    for row in rows:
        line = lines[row["record_id"]]
        for name, value in row.items():
            if name in ("seq", "line", "attrs", "date"):
                continue
            if name == "labels":
                value = dict(value) if value else None
            if hasattr(value, "isoformat"):
                value = value.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
            if isinstance(value, decimal.Decimal):
                same(decimal.Decimal(str(line[name])), value, name)
            else:
                same(line.get(name), value, f"{row['record_id']}: {name}")
            seen[name] += value is not None
    assert len(seen) > 40 and seen["cost_usd"] > 0 and seen["labels"] > 0, seen


@case
def the_list_says_what_the_files_hold(world):
    listed = world.own("files", "--stream", "all", "-o", "json").splitlines()
    listed = [json.loads(line) for line in listed]
    assert {file["dataset"] for file in listed} >= {"records", "traces"}, listed
    for file in listed:
        footer = pyarrow.parquet.ParquetFile(file["path"])
        same(file["rows"], footer.metadata.num_rows, file["path"])
        same(file["bytes"], os.path.getsize(file["path"]), file["path"])
        ts = footer.read(columns=["ts"])["ts"].to_pandas()
        same(file["min_ts"], ts.min().strftime("%Y-%m-%dT%H:%M:%S.%fZ"), file["path"])
        same(file["max_ts"], ts.max().strftime("%Y-%m-%dT%H:%M:%S.%fZ"), file["path"])
        assert ts.is_monotonic_increasing, f"{file['path']} is not sorted"
    records = [file["path"] for file in listed if file["dataset"] == "records"]
    same(sorted(records), sorted(world.files), "files of records")


@case
def the_list_is_as_narrow_as_it_is_asked(world):
    same(world.own("files", "--until", "2001-01-01", status=1), "", "files of another century")
    listed = [json.loads(line) for line in world.own("files", "-o", "json").splitlines()]
    latest = max(file["max_ts"] for file in listed)
    since = world.own("files", "--since", latest).splitlines()
    same(since, [file["path"] for file in listed if file["max_ts"] == latest], "the newest files")


def main():
    world = World(os.environ)
    print(f"DuckDB {duckdb.__version__}, pandas {pandas.__version__}, pyarrow {pyarrow.__version__}")
    failed = 0
    for function in CASES:
        try:
            function(world)
            print(f"ok      {function.__name__}")
        except Exception:
            failed += 1
            print(f"FAILED  {function.__name__}")
            traceback.print_exc(file=sys.stdout)
    print(f"{len(CASES) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
