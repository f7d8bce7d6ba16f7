"""`dittofs signal`, as far as it needs no network."""

from pathlib import Path

import pytest

from dittofs.cli.signal import _tls
from dittofs.control.faults import Refusal


def test_a_certificate_or_key_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    there, missing = tmp_path / "there.pem", tmp_path / "missing.pem"
    there.write_text("")
    for certificate, key in ((missing, there), (there, missing)):
        with pytest.raises(Refusal) as caught:
            _tls(str(certificate), str(key))
        assert str(missing) in str(caught.value)
        assert "No such file or directory" in str(caught.value)
