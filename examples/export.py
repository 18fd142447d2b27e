# edge serve --dev --app-dir examples export:app
"""A WSGI application with Flask (pip install flask), and a table of any length.

It is at https://localhost:8443/squares.csv?rows=1000000. Nothing says that this is WSGI: edge sees it by the arguments,
and calls it in threads of a worker (`--threads`). The next row is asked for when the client has taken those before.
"""

from collections.abc import Iterator

from flask import Flask, Response, request, url_for

app = Flask(__name__)


@app.get("/")
def index() -> str:
    """Say where the table is, under the host and scheme that the client asked for."""
    return url_for("squares", rows=1000, _external=True) + "\n"


@app.get("/squares.csv")
def squares() -> Response:
    """Return the table, row by row."""
    rows = request.args.get("rows", 1000, type=int)

    def lines() -> Iterator[str]:
        yield "number,square\n"
        for number in range(rows):
            yield f"{number},{number * number}\n"

    return Response(lines(), mimetype="text/csv")
