"""Whether a training fits a card, and with how many pairs at once."""

from __future__ import annotations

import pytest

from nmt.config import with_overrides
from nmt.training import fit as module
from nmt.training.cards import CONTEXT, Card
from nmt.training.fit import fit
from tests.nmt_tests.toy_training import small

GB = 1e9


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Replace the trace by one that needs 4 GB, and 2 GB a pair; the pairs at once that were traced."""
    asked: list[int] = []

    class Trace:
        def __init__(self, pairs: int) -> None:
            self.peak = (4 + 2 * pairs) * GB - CONTEXT

    def trace(config, *, data):
        asked.append(config.train.micro_batch or config.data.pairs_per_step)
        return Trace(asked[-1])

    monkeypatch.setattr(module, "trace_step", trace)
    return asked


def card(gigabytes: float) -> Card:
    return Card("a card", (gigabytes * GB) / 0.92)  # all but the spare memory


@pytest.mark.parametrize(
    ("pairs", "room", "smaller", "traces"),
    [(8, 20, None, [8]), (8, 19, 4, [8, 4]), (8, 11, 2, [8, 4]), (8, 6.5, 1, [8, 4]), (7, 13, 4, [7, 4])],
)
def test_the_pairs_at_once_are_halved_until_they_fit(tmp_path, traced, pairs, room, smaller, traces):
    found = fit(small(data__pairs_per_step=pairs), data=tmp_path, card=card(room))
    assert (found.fits, found.smaller, traced) == (smaller is None, smaller, traces)
    assert found.needed == pytest.approx((4 + 2 * pairs) * GB)
    told = f"set train.micro_batch={smaller}" in str(found)
    assert told == (smaller is not None)


def test_what_fits_with_no_number_of_pairs_says_so(tmp_path, traced):
    for config in (small(), small(train__micro_batch=1)):
        found = fit(config, data=tmp_path, card=card(5))
        assert not found.fits and found.smaller is None
        assert "not enough, not even with one pair; choose a smaller model" in str(found)


def test_the_workers_of_a_training_share_its_pairs(tmp_path, traced):
    found = fit(small(data__pairs_per_step=8), data=tmp_path, card=None, workers=3)
    assert (found.pairs, traced) == (3, [3])
    assert str(found) == "a step needs about 10 GB of GPU memory with 3 pairs at once"


def test_a_real_step_needs_less_with_fewer_pairs_at_once(toy_data):
    config = small(data__pairs_per_step=32, model__decoder_layers=1)
    whole, part = (
        fit(with_overrides(config, {"train.micro_batch": size}, source="test"), data=toy_data, card=None)
        for size in (0, 4)
    )
    assert CONTEXT < part.needed < whole.needed < CONTEXT + 1 * GB
