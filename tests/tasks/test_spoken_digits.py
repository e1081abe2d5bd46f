"""The spoken digits: split, mixtures, noise."""

from importlib import resources

import numpy as np
import pytest
import torch

from goaldriven.errors import DataError
from goaldriven.specs.tasks import SpokenDigits
from goaldriven.tasks import load, spoken_digits
from goaldriven.tasks.spoken_digits import (
    COCHLEAGRAM,
    N_REALISATIONS,
    N_SAMPLES,
    babble,
    load_spoken_digits,
    mixture,
    read_clips,
    voices_of,
)


def db(ratio):
    return 20 * np.log10(ratio)


def rms(x):
    return np.sqrt(np.mean(np.square(x, dtype=np.float64)))


def test_split_is_the_sources_and_balanced():
    file = resources.files("goaldriven") / "data" / "spoken_digits_fsdd_subset.npz"
    with file.open("rb") as stream, np.load(stream) as data:
        index, digit, offsets = data["index"], data["digit"], data["offsets"]
        first_training = int(np.flatnonzero(index >= 5)[0])
        raw = data["samples"][offsets[first_training] : offsets[first_training + 1]].astype(float)
    train, validation = read_clips()
    assert set(index[train.number]) == {5, 6, 7, 8, 9}
    assert set(index[validation.number]) == {0, 1, 2, 3, 4}
    for clips in (train, validation):
        assert len(clips.sounds) == 300
        cells = list(zip(clips.speaker, clips.digit, strict=True))
        assert len(set(cells)) == 60
        assert all(cells.count(c) == 5 for c in set(cells))
        np.testing.assert_array_equal(clips.digit, digit[clips.number])
        assert all(rms(s) == pytest.approx(1, rel=1e-5) for s in clips.sounds)
    np.testing.assert_allclose(train.sounds[0], raw / rms(raw), rtol=1e-5)


@pytest.mark.parametrize("snr", [-5.0, 0.0, 10.0, 60.0])
@pytest.mark.parametrize("length", [700, 701, 8000, 9001])
def test_mixtures_have_the_stated_ratio(snr, length):
    """Taken apart again by regression on word and background, which are independent noises."""
    rng = np.random.default_rng(0)
    word, background = (rng.normal(size=n).astype(np.float32) for n in (length, N_SAMPLES))
    mixed = mixture(word, background, snr)
    assert mixed.shape == (N_SAMPLES,)
    assert rms(mixed) == pytest.approx(1, rel=1e-5)
    kept = min(length, N_SAMPLES)
    start, cut = (N_SAMPLES - kept) // 2, (length - kept) // 2
    alone = np.zeros(N_SAMPLES)
    alone[start : start + kept] = word[cut : cut + kept]
    (a, b), residual, *_ = np.linalg.lstsq(np.stack([alone, background], 1), mixed, rcond=None)
    assert residual < 1e-6
    here = slice(start, start + kept)
    assert db(rms(a * alone[here]) / rms(b * background[here])) == pytest.approx(snr, abs=0.01)
    assert a > 0 < b


def test_babble_is_everybody_else():
    """Each voice a constant of its own: the sum tells who speaks."""
    voices = {name: np.full(N_SAMPLES + 7, 10.0**i, np.float32) for i, name in enumerate("abc")}
    rng = np.random.default_rng(0)
    assert set(babble(voices, "b", rng)) == {101.0}
    assert set(babble(voices, "nobody", rng)) == {111.0}


def test_voices_are_rings_of_training_clips():
    train, _ = read_clips()
    voices = voices_of(train)
    assert voices.keys() == set(train.speaker)
    voice = voices["george"]
    assert len(voice) == N_SAMPLES + sum(
        len(s) for s, who in zip(train.sounds, train.speaker, strict=True) if who == "george"
    )
    np.testing.assert_array_equal(voice[:N_SAMPLES], voice[-N_SAMPLES:])
    rng = np.random.default_rng(0)
    starts = [babble({"x": np.arange(20_000, dtype=np.float32)}, "y", rng)[0] for _ in range(500)]
    assert 0 <= min(starts) < 500
    assert 11_500 < max(starts) < 12_000


def test_validation_backgrounds_are_fixed_and_limits_do_not_move_them():
    load_afresh = lambda **limits: load_spoken_digits(SpokenDigits(**limits), torch.device("cpu"))  # noqa: E731
    one = load_afresh(train_limit=20)
    two = load_afresh(train_limit=20, validation_limit=50)
    keep = two.validation_stimuli
    every = one.validation_stimuli.flatten(1)
    distance = torch.stack([(x - every).abs().amax(1).amin() for x in keep.flatten(1)])
    assert distance.max() < 1e-5, "every one of the 50 is among the 300"


def test_noise_is_redrawn_among_the_stored_backgrounds():
    task = load_spoken_digits(SpokenDigits(train_limit=20), torch.device("cpu"))
    chosen = torch.zeros(400, dtype=torch.int64)
    draws = task.draw(chosen, torch.Generator().manual_seed(0)).flatten(1)
    different, counts = torch.unique(draws, dim=0, return_counts=True)
    assert len(different) == N_REALISATIONS
    assert counts.min() > 400 / N_REALISATIONS / 2


def test_noisier_backgrounds_move_the_stimuli_further():
    quiet, *noisy = (
        load_spoken_digits(
            SpokenDigits(snr_db=snr, train_limit=20, validation_limit=20), torch.device("cpu")
        ).validation_stimuli
        for snr in (60.0, 20.0, 10.0, 0.0)
    )
    distances = [(x - quiet).square().mean().item() for x in noisy]
    assert distances == sorted(distances)
    assert distances[0] > 0.01


def test_stimuli_are_standardised_cochleagrams_of_the_mixtures():
    """One validation stimulus by hand, up to the two numbers of the standardisation."""
    task = load(SpokenDigits())
    train, validation = read_clips()
    rng = np.random.default_rng((1, validation.number[7]))
    sound = mixture(
        validation.sounds[7], babble(voices_of(train), str(validation.speaker[7]), rng), 10.0
    )
    image = COCHLEAGRAM(torch.from_numpy(sound)).flatten().numpy()
    stimulus = task.validation_stimuli[7].flatten().numpy()
    assert np.corrcoef(image, stimulus)[0, 1] == pytest.approx(1, abs=1e-6)
    bank = task.draw(torch.arange(300), torch.Generator())
    assert abs(bank.mean().item()) < 0.02
    assert bank.std().item() == pytest.approx(1, abs=0.02)


def test_a_damaged_data_file_is_reported(tmp_path, monkeypatch):
    class Package:
        @staticmethod
        def files(_):
            return tmp_path

    (tmp_path / "data").mkdir()
    broken = tmp_path / "data" / "spoken_digits_fsdd_subset.npz"
    monkeypatch.setattr(spoken_digits, "resources", Package)
    read = read_clips.__wrapped__
    with pytest.raises(DataError, match="must be the package's data file, got FileNotFoundError"):
        read()
    broken.write_bytes(b"PK\x03\x04 not really")
    with pytest.raises(DataError, match=r"spoken_digits_fsdd_subset.npz must be .* BadZipFile"):
        read()
    np.savez(broken, samples=np.zeros(3, np.int16))
    with pytest.raises(DataError, match=r"got KeyError.*'offsets'"):
        read()
