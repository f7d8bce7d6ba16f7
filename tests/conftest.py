"""What holds for every test: a warning in the log that the test did not announce is a failure."""

import logging
import signal
from collections.abc import Iterator

import pytest
import structlog


class _Recorder(logging.Handler):
    """Keeps what is logged at warning level or above, from any thread."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


def pytest_configure() -> None:
    """Be interrupted, and unmount, in the background of a shell too, which has interrupts ignored there."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def log_through_stdlib() -> None:
    """structlog hands its events to stdlib logging as `event key='value'`, as in the daemon."""
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.processors.format_exc_info,
            structlog.processors.KeyValueRenderer(key_order=["event"]),
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )


@pytest.fixture(autouse=True)
def warnings_fail(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that logs a warning. `@pytest.mark.logs_warning("journal damaged")` announces one."""
    recorder = _Recorder()
    logging.getLogger().addHandler(recorder)
    yield
    logging.getLogger().removeHandler(recorder)
    marker = request.node.get_closest_marker("logs_warning")
    announced: tuple[str, ...] = marker.args if marker else ()
    unexpected = [text for text in recorder.messages if not any(event in text for event in announced)]
    assert not unexpected, f"unexpected warnings in the log: {unexpected}"
