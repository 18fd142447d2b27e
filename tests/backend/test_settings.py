"""What a worker is told travels in one line."""

from __future__ import annotations

import pytest

from edge_backend.settings import WorkerSettings

SETTINGS = WorkerSettings(
    target="package.module:app",
    app_dir="/srv/ünïcödé\nfolder",
    factory=True,
    root_path="/api",
    lifespan="auto",
    number=3,
    log_level="info",
    drain_timeout=30.0,
    ws_max_size=16 * 1024 * 1024,
    ws_ping_interval=20.0,
    ws_ping_timeout=0.5,
    ws_per_message_deflate=False,
)


def test_settings_come_out_as_they_went_in_by_one_line() -> None:
    line = SETTINGS.encode()
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    assert WorkerSettings.decode(line) == SETTINGS


def test_setting_that_is_not_known_is_refused() -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'color'"):
        WorkerSettings.decode(SETTINGS.encode().replace(b'"factory"', b'"color": 1, "factory"'))
