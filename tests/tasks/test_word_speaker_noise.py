"""A fake word-speaker-noise set of the spoken digits, and everything that can be wrong with one."""

import os
import shutil

import h5py
import numpy as np
import pytest
import torch
from scipy.io import wavfile

from goaldriven.errors import DataError, SpecError
from goaldriven.specs import NetworkSpec
from goaldriven.specs.tasks import CochleagramSettings, WordSpeakerNoise
from goaldriven.tasks import cochleagram_cache
from goaldriven.tasks.cochleagram_cache import CACHE_VARIABLE
from goaldriven.tasks.loader import WORKERS_VARIABLE
from goaldriven.tasks.sounds import waveform
from goaldriven.tasks.word_speaker_noise import front_end, load_word_speaker_noise
from goaldriven.training import train

from .sound_files import SETTINGS, write_hdf5, write_wav_folder

CPU = torch.device("cpu")
SMALL = {"n_classes": 10, "cochleagram": SETTINGS}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache" / "cochleagrams"


@pytest.fixture
def words_hdf5(tmp_path, words_wav):
    path = tmp_path / "words.h5"
    write_hdf5(path, words_wav.train, words_wav.test)
    return path


def task(source, **settings):
    return load_word_speaker_noise(WordSpeakerNoise(source=str(source), **SMALL | settings), CPU)


def everything(made):
    epoch = made.train_batches(15, torch.Generator().manual_seed(0))
    batches = [*epoch, *made.validation_objective_batches(10)]
    return [t for b in batches for t in (b.stimuli, b.labels)]


def same(one, two):
    return len(one) == len(two) and all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


def test_the_published_front_end():
    """203 channels and 400 frames of two seconds; 793 words and null."""
    spec = WordSpeakerNoise()
    assert (spec.n_classes, spec.target) == (794, "word")
    cochleagram = front_end(spec.cochleagram)
    assert cochleagram.n_channels == 203
    assert cochleagram.n_frames(40_000) == 400
    assert (cochleagram.low, cochleagram.high, cochleagram.compression) == (20, 8_000, 0.3)
    assert cochleagram.sample_rate == 20_000


def test_published_dimensions_end_to_end(tmp_path):
    """Two seconds at 20 kHz from a wav file; labels up to 793."""
    rng = np.random.default_rng(0)
    sounds = rng.integers(-3_000, 3_000, (2, 40_000)).astype(np.int16)
    labels = {name: np.array([0, 793]) for name in ("word", "speaker", "noise")}
    write_wav_folder(tmp_path, (sounds, labels), (sounds, labels), rate=20_000)
    made = load_word_speaker_noise(WordSpeakerNoise(source=str(tmp_path)), CPU)
    assert made.input_shape == (1, 203, 400)
    assert made.n_classes == 794
    (shown,) = made.validation_batches(2)
    assert shown.shape == (2, 1, 203, 400)
    assert shown.isfinite().all()
    assert shown.min() >= 0


def test_stimuli_are_cochleagrams_of_the_recordings(words_wav):
    made = task(words_wav.folder)
    sounds = words_wav.test[0].astype(np.float64)
    sounds /= np.sqrt((sounds**2).mean(1, keepdims=True))
    expected = front_end(SETTINGS)(torch.from_numpy(sounds)).float()
    shown = torch.cat(list(made.validation_batches(7)))
    torch.testing.assert_close(shown[:, 0], expected, atol=1e-5, rtol=1e-4)
    assert not shown.requires_grad
    assert np.array_equal(made.validation.labels, words_wav.test[1]["word"])


@pytest.mark.parametrize("target", ["word", "speaker", "noise"])
def test_wav_files_and_hdf5_give_the_same_tensors(words_wav, words_hdf5, target):
    one, two = (task(s, target=target) for s in (words_wav.folder, words_hdf5))
    assert same(everything(one), everything(two))
    assert np.array_equal(one.train.labels, words_wav.train[1][target])


def test_float_sounds_of_another_loudness_give_the_same_tensors(tmp_path, words_wav):
    splits = [((s / 2**15).astype(np.float32), y) for s, y in (words_wav.train, words_wav.test)]
    write_hdf5(tmp_path / "float.h5", *splits)
    for a, b in zip(everything(task(words_wav.folder)), everything(task(tmp_path / "float.h5")),
                    strict=True):  # fmt: skip
        torch.testing.assert_close(a, b)


def test_workers_change_nothing(words_hdf5, monkeypatch):
    results = []
    for workers in ("0", "1", "4"):
        monkeypatch.setenv(WORKERS_VARIABLE, workers)
        results.append(everything(task(words_hdf5)))
    assert same(results[0], results[1])
    assert same(results[0], results[2])


def test_classes_from_the_labels(words_wav):
    assert task(words_wav.folder, target="speaker", n_classes=None).n_classes == 6
    assert task(words_wav.folder, target="noise", n_classes=None).n_classes == 2


def test_words_may_be_written_out(tmp_path, words_wav):
    """Numbered alphabetically."""
    names = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    write_wav_folder(tmp_path, words_wav.train, words_wav.test, names=names)
    labels = task(tmp_path).train.labels
    expected = [sorted(names).index(names[w]) for w in words_wav.train[1]["word"]]
    assert labels.tolist() == expected


def test_a_network_learns_words(words_hdf5):
    """Better than chance on the sounds it has heard."""
    spec = NetworkSpec(
        task={"name": "word_speaker_noise", "source": str(words_hdf5), "n_classes": 10,
              "cochleagram": SETTINGS.model_dump(), "cached": True},
        architecture={"name": "mlp", "hidden": [30]}, rule={"name": "adam"},
        batch_size=15, epochs=40, record_every=40,
    )  # fmt: skip
    trajectory = train(spec)
    assert trajectory.training_loss[-1] < 0.7 * np.log(10)


# The cache ----------------------------------------------------------------------------------------


def test_cached_cochleagrams_are_the_same_to_rounding(words_wav, cache):
    made = task(words_wav.folder, cached=True)
    assert len(list(cache.glob("*.npy"))) == 2
    assert not list(cache.glob(".*")), "no half-written file stays"
    for a, b in zip(everything(made), everything(task(words_wav.folder)), strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5)
    assert isinstance(made.train.values, np.memmap), "mapped, not read into memory"
    assert not made.train.values.flags.writeable


def test_the_cache_is_used_again(words_wav, monkeypatch):
    first = everything(task(words_wav.folder, cached=True))
    monkeypatch.setattr(cochleagram_cache, "_write", lambda *a: pytest.fail("made again"))
    assert same(first, everything(task(words_wav.folder, cached=True)))


def test_other_contents_settings_and_limits_are_other_files(tmp_path, words_wav, cache):
    folder = shutil.copytree(words_wav.folder, tmp_path / "words")
    task(folder, cached=True)
    rate, sound = wavfile.read(folder / "train" / "0003.wav")
    wavfile.write(folder / "train" / "0003.wav", rate, sound[::-1])
    changed = task(folder, cached=True)
    assert len(list(cache.glob("*.npy"))) == 3
    stimulus = torch.from_numpy(np.array(changed.train.values[3]))
    fresh = front_end(SETTINGS)(torch.from_numpy(waveform(sound[::-1], "")))
    torch.testing.assert_close(stimulus, fresh, atol=1e-5, rtol=1e-4)
    task(folder, cached=True, train_limit=20)
    task(folder, cached=True, cochleagram=SETTINGS.model_copy(update={"compression": 0.5}))
    assert len(list(cache.glob("*.npy"))) == 6


def test_a_full_disk_leaves_nothing(words_wav, cache, monkeypatch):
    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DataError, match=r"cannot write .*npy: No space left on device"):
        task(words_wav.folder, cached=True)
    assert list(cache.iterdir()) == []


def test_a_damaged_cache_is_named(words_wav, cache):
    task(words_wav.folder, cached=True)
    for path in cache.glob("*.npy"):
        path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(DataError, match=r"npy must be a readable array, got: .*; remove it"):
        task(words_wav.folder, cached=True)


def test_a_cache_with_objects_in_it_is_not_loaded(words_wav, cache):
    task(words_wav.folder, cached=True)
    for path in cache.glob("*.npy"):
        np.save(path, np.array([print], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match=r"must be a readable array, got: .*object"):
        task(words_wav.folder, cached=True)


# What can be wrong --------------------------------------------------------------------------------


def message(source, **settings):
    with pytest.raises(DataError) as caught:
        everything(task(source, **settings))
    return str(caught.value).replace(str(source), "SOURCE")


@pytest.fixture
def folder(tmp_path, words_wav):
    return shutil.copytree(words_wav.folder, tmp_path / "words")


@pytest.mark.parametrize("damage", ["junk", "cut", "empty", "gone"])
def test_an_unreadable_wav_is_named(folder, damage):
    path = folder / "train" / "0007.wav"
    content = path.read_bytes()
    path.write_bytes({"junk": b"no sound at all", "cut": content[:4001]}.get(damage, b""))
    if damage == "gone":
        path.unlink()
    said = message(folder)
    assert said.startswith(
        "task word_speaker_noise: SOURCE/train/0007.wav (line 9 of train.csv) must "
    )
    assert "must be a readable wav file, got: " in said or "must have 8000 samples" in said


def test_wrong_rates_lengths_and_channels_are_named(folder):
    path = folder / "validation" / "0002.wav"
    where = "task word_speaker_noise: SOURCE/validation/0002.wav (line 4 of validation.csv) must "
    _, sound = wavfile.read(path)
    wavfile.write(path, 20_000, sound)
    assert message(folder) == where + "be sampled at 8000 Hz, got 20000 Hz"
    wavfile.write(path, 8_000, sound[:-1])
    assert message(folder) == where + "have 8000 samples in one channel, got 7999 samples"
    wavfile.write(path, 8_000, np.stack([sound, sound], 1))
    assert message(folder).endswith("in one channel, got 8000 samples in 2 channels")
    sound = sound.astype(np.float32)
    sound[5] = np.nan
    wavfile.write(path, 8_000, sound)
    assert message(folder) == where + "be finite, got NaN or infinity"


def test_labels_out_of_range_are_named(folder, words_hdf5, words_wav):
    first = int(np.flatnonzero(words_wav.train[1]["word"] == 9)[0])
    wav = f"SOURCE/train/{first:04d}.wav (line {first + 2} of train.csv)"
    for source, where in ((folder, wav), (words_hdf5, f"row {first} of train/sound in SOURCE")):
        assert message(source, n_classes=9) == (
            "task word_speaker_noise: training labels (word) must be whole numbers from 0 to 8, "
            f"got 9 for {where}"
        )


def test_csv_files(folder):
    csv = folder / "train.csv"
    lines = csv.read_text().splitlines()
    csv.write_text("\n".join(line.rpartition(",")[0] for line in lines))
    assert message(folder, target="noise") == (
        "task word_speaker_noise: SOURCE/train.csv must have the columns file and noise, "
        "got file, word, speaker"
    )
    csv.write_text("\n".join([*lines[:4], "train/0003.wav,,0,0", *lines[5:]]))
    assert message(folder).endswith("train.csv: line 5 must have a file and a word")
    csv.write_text(lines[0])
    assert message(folder).endswith("training stimuli must be at least 1, got 0")
    csv.write_bytes(b"\xff\xfe\x00")
    assert "train.csv must be a readable CSV file, got: " in message(folder)
    csv.unlink()
    assert "train.csv must be a readable CSV file, got: " in message(folder)


def test_words_unknown_to_the_training(tmp_path, words_wav):
    names = list("abcdefghij")
    write_wav_folder(tmp_path, words_wav.train, words_wav.test, names=names)
    csv = tmp_path / "validation.csv"
    csv.write_text(csv.read_text().replace(",c,", ",new,", 1))
    line = 2 + int(np.flatnonzero(words_wav.test[1]["word"] == 2)[0])
    assert message(tmp_path).endswith(
        f"validation.csv: every word must be in train.csv too, got 'new' in line {line}"
    )


def rewritten(path, change):
    with h5py.File(path, "r+") as file:
        change(file)
    return path


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda f: f.attrs.modify("sample_rate", 20_000), "must be sampled at 8000 Hz, got 20000"),
        (lambda f: f.attrs.__delitem__("sample_rate"), "at 8000 Hz, got no sample_rate"),
        (lambda f: f.__delitem__("train/word"), "must hold train/word, got no such array"),
        (lambda f: f.__delitem__("validation"), "must hold validation/sound, got no such array"),
        (lambda f: _replace(f, "train/word", np.zeros(60)), "array (n,) of whole numbers"),
        (lambda f: _replace(f, "train/word", np.zeros(5, int)), "entries as the 60 sounds, got 5"),
        (lambda f: _replace(f, "train/sound", np.zeros((60, 9))), "8000 samples each, got 9"),
        (lambda f: _replace(f, "train/sound", np.zeros(60)), "array of numbers (n, samples)"),
        (lambda f: _replace(f, "train/sound", np.full((60, 8000), np.inf)), "be finite, got NaN"),
    ],
)
def test_hdf5_files(words_hdf5, change, said):
    assert said in message(rewritten(words_hdf5, change))


def _replace(file, name, values):
    del file[name]
    file[name] = values


def test_hdf5_that_is_none(words_hdf5):
    words_hdf5.write_bytes(words_hdf5.read_bytes()[:500])
    assert "must be a readable HDF5 file, got: " in message(words_hdf5)


def test_sources_that_are_neither(tmp_path):
    (tmp_path / "words.pkl").write_bytes(b"")
    for source in ("nowhere", tmp_path / "words.pkl"):
        assert message(source).startswith(
            "task word_speaker_noise: source must be an existing folder of wav files or an HDF5"
        )


def test_impossible_front_ends(words_wav):
    with pytest.raises(SpecError, match="limits must be 0 ≤ low < high ≤ 4000 Hz"):
        task(words_wav.folder, cochleagram=CochleagramSettings(sample_rate=8_000))
    ragged = SETTINGS.model_copy(update={"seconds": 0.99})
    with pytest.raises(SpecError, match="whole number of frames"):
        task(words_wav.folder, cochleagram=ragged)


def test_silence_stays_silence():
    assert (waveform(np.zeros(10), "here") == 0).all()
    np.testing.assert_allclose(np.square(waveform(np.arange(9), "here")).mean(), 1, rtol=1e-6)
