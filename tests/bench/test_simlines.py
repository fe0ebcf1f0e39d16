"""The sixteen pairs of lines in virtual time."""

from __future__ import annotations

import pytest

from bench import simlines


def test_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    """One pair, a short transfer: the better line alone, both, and their mean."""
    simlines.main(["--control", "cubic", "--only", "bw_4to1", "--mib", "0.25"])
    head, row, mean = capsys.readouterr().out.splitlines()
    assert head.split() == ["cubic", "alone", "both", "of", "best", "of", "rates"]
    assert row.startswith("bw_4to1") and float(row.split()[-3]) > 1.0
    assert mean.startswith("geometric mean")


def test_an_unknown_pair_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """Its name is told."""
    with pytest.raises(SystemExit):
        simlines.main(["--only", "baseline,nonsense"])
    assert "nonsense" in capsys.readouterr().err
