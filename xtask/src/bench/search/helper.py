"""DuckDB for the benchmark of search, as a process that stays up: its start is not measured.

Reads one request as a line of JSON, answers with one line of JSON. A request is
{"op": "open", "views": {name: [files]}, "threads": n}, {"op": "time" | "rows" | "memory", "sql": ...}
or {"op": "compare", "sql": ..., "file": ...}: whether the rows hold, field by field, what the lines
of JSON in the file hold.
"""

import datetime
import decimal
import json
import sys
import time

import duckdb

connection = duckdb.connect()


def open_views(request):
    connection.execute(f"SET threads = {request['threads']}")
    # It would draw one between the answers when a statement takes long.
    connection.execute("SET enable_progress_bar = false")
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute("SET parquet_metadata_cache = true")
    for name, files in request["views"].items():
        names = ", ".join("'" + file.replace("'", "''") + "'" for file in files)
        connection.execute(
            f"CREATE OR REPLACE VIEW {name} AS SELECT * FROM read_parquet([{names}], hive_partitioning = false)"
        )
    return {"version": duckdb.__version__}


def timed(request):
    start = time.perf_counter()
    rows = connection.execute(request["sql"]).fetchall()
    return {"ms": (time.perf_counter() - start) * 1000, "rows": len(rows)}


def text(value):
    if value is None:
        return None
    if isinstance(value, datetime.datetime):
        return value.astimezone(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return str(value)


def rows(request):
    return {"rows": [[text(value) for value in row] for row in connection.execute(request["sql"]).fetchall()]}


def peak_kib():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM:"))


def memory(request):
    with open("/proc/self/clear_refs", "w") as clear:
        clear.write("5")
    connection.execute(request["sql"]).fetchall()
    return {"peak_kib": peak_kib()}


def same(line, column):
    """Whether a value of a line and one of a column say the same."""
    if isinstance(column, datetime.datetime):
        return text(column) == line
    if isinstance(column, decimal.Decimal):
        # A number of JSON is the decimal that stands there, not its nearest fraction of twos.
        return column == decimal.Decimal(str(line))
    if isinstance(column, list):
        column = dict(column)
    if isinstance(column, float) and isinstance(line, (int, float)):
        return abs(column - line) <= 1e-9 * max(1.0, abs(column))
    return column == line


def compare(request):
    found = connection.execute(request["sql"])
    names = [column[0] for column in found.description]
    columns = {}
    for row in found.fetchall():
        row = dict(zip(names, row))
        columns[row["record_id"]] = row
    count = 0
    with open(request["file"], "rb") as file:
        for line in file:
            count += 1
            line = json.loads(line)
            row = columns.pop(line["record_id"], None)
            if row is None:
                return {"equal": False, "why": f"{line['record_id']} is not among DuckDB's rows"}
            for name, value in line.items():
                if name in row and not same(value, row.pop(name)):
                    return {"equal": False, "why": f"{line['record_id']}: {name} differs: {value}"}
            own = {"seq", "instance", "attrs", "labels", "date"}
            left = [name for name, value in row.items() if value is not None and name not in own]
            if left:
                return {"equal": False, "why": f"{line['record_id']}: the line has no {left}"}
    if columns:
        return {"equal": False, "why": f"{len(columns)} rows of DuckDB are missing"}
    return {"equal": True, "rows": count}


OPERATIONS = {"open": open_views, "time": timed, "rows": rows, "memory": memory, "compare": compare}

for line in sys.stdin:
    request = json.loads(line)
    try:
        answer = OPERATIONS[request["op"]](request)
    except Exception as error:  # the benchmark says it, with the request
        answer = {"error": f"{type(error).__name__}: {error}"}
    print(json.dumps(answer), flush=True)
