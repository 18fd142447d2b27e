"""Datasette over a small database that it makes itself."""
# Datasette carries no types.
# mypy: disable-error-code="import-untyped"

import sqlite3
from pathlib import Path

from datasette.app import Datasette

DATABASE = Path("books.db")

with sqlite3.connect(DATABASE) as connection:
    connection.execute("create table book (id integer primary key, title text)")
    connection.executemany("insert into book (title) values (?)", [(f"Volume {number}",) for number in range(1, 251)])

app = Datasette([str(DATABASE)], settings={"force_https_urls": False}).app()
