"""The winner at work: shown where weights and data are at hand, one sentence where they are not."""

from __future__ import annotations

import dataclasses

from tune.page.look import EPSILONS, ITERATIONS, Winner, look_at


def test_the_winner_is_looked_at_on_every_decoding_of_the_search(searched, gallery, tmp_path):
    made = searched[1]
    (gallery.folder).mkdir()
    (gallery.folder / "hard_pair_9.png").write_bytes(b"of an earlier report")
    found = look_at(made, searched[0], gallery)
    assert isinstance(found, Winner) and 0 < found.pairs <= found.of == 40  # 20 of each category
    assert all(0 <= pair.right < pair.known and pair.category in ("cup", "fish") for pair in found.hardest)
    assert len(list(gallery.folder.glob("hard_pair_*.png"))) == len(found.hardest) <= 4
    for value in (*ITERATIONS, *EPSILONS):
        assert f">{value:g}<" in found.decodings.picture


def test_a_matcher_that_is_too_slow_for_a_look_is_left_out(searched, gallery, monkeypatch):
    monkeypatch.setattr("tune.page.look.FEWEST_PAIRS", 41)  # more than there are: all of them are enough
    assert isinstance(look_at(searched[1], searched[0], gallery), Winner)
    monkeypatch.setattr("tune.page.look.SECONDS", 0.0)
    told = str(look_at(searched[1], searched[0], gallery))
    assert told.startswith("Only 16 of 40 validation pairs could be matched") and "--evaluate" in told


def test_what_is_missing_is_said_in_one_sentence(searched, gallery, weights):
    directory, made = searched
    best = made.best

    def told(**changes) -> object:
        trials = tuple(dataclasses.replace(t, **changes) if t is best else t for t in made.trials)
        return look_at(dataclasses.replace(made, trials=trials), directory, gallery)

    assert told(checkpoint=None) == told(checkpoint="trials/009/best.pt")
    assert "weights are not in this folder" in str(told(checkpoint=None))
    elsewhere = dataclasses.replace(made, data="s3://bucket/tiny")
    assert "The data set s3://bucket/tiny is not here" in str(look_at(elsewhere, directory, gallery))
    empty = dataclasses.replace(made, data=str(directory))
    assert "objects.arrow" in str(look_at(empty, directory, gallery))
    assert "no winner to look at" in str(look_at(dataclasses.replace(made, trials=()), directory, gallery))
