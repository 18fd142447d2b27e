"""The test's application with Flask, under WSGI."""

from flask import Flask, Response, request

from tests.process.frameworks.gates import GATES, describe, events, pieces

app = Flask(__name__)


@app.post("/upload")
def upload() -> str:
    return describe(request.get_data())


@app.get("/stream")
def stream() -> Response:
    return Response(pieces())


@app.get("/events/<name>")
def feed(name: str) -> Response:
    return Response(events(name), mimetype="text/event-stream")


@app.post("/gates/<name>")
def open_gate(name: str) -> str:
    GATES[name].set()
    return "open"
