"""A small word-speaker-noise set of the spoken digits, in the formats that users have."""

import csv

import numpy as np
from scipy.io import wavfile

from goaldriven.specs.tasks import CochleagramSettings
from goaldriven.tasks.checks import balanced_order
from goaldriven.tasks.spoken_digits import babble, mixture, read_clips, voices_of

SETTINGS = CochleagramSettings(
    sample_rate=8_000, envelope_rate=16, low=50.0, high=3_800.0, n_filters=10, sample_factor=1,
    seconds=1.0,
)  # fmt: skip
NOISES_DB = (3.0, 10.0)
LABELS = ("word", "speaker", "noise")


def recordings(n, split):
    """Sounds (n, 8000) int16 of a second each, and their three labels (n,)."""
    clips = read_clips()[split]
    voices = voices_of(read_clips()[0])
    clips = clips.select(balanced_order(clips.digit)[:n])
    speakers = sorted(voices)
    noise = np.arange(n) // 10 % 2
    sounds = np.empty((n, 8_000), dtype=np.int16)
    for i, (word, speaker) in enumerate(zip(clips.sounds, clips.speaker, strict=True)):
        background = babble(voices, str(speaker), np.random.default_rng(i))
        sounds[i] = np.rint(2_000 * mixture(word, background, NOISES_DB[noise[i]]))
    speaker = np.array([speakers.index(str(s)) for s in clips.speaker])
    return sounds, {"word": clips.digit, "speaker": speaker, "noise": noise}


def write_wav_folder(folder, train, validation, rate=8_000, names=None):
    """``names``: what a word is called in the CSV files, numbers unless given."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, (sounds, labels) in (("train", train), ("validation", validation)):
        with open(folder / f"{split}.csv", "w", newline="") as stream:
            rows = csv.writer(stream)
            rows.writerow(("file", *LABELS))
            for i, sound in enumerate(sounds):
                name = f"{split}/{i:04d}.wav"
                (folder / split).mkdir(exist_ok=True)
                wavfile.write(folder / name, rate, sound)
                row = [labels[label][i] for label in LABELS]
                if names is not None:
                    row[0] = names[row[0]]
                rows.writerow((name, *row))


def write_hdf5(path, train, validation, rate=8_000):
    import h5py

    with h5py.File(path, "w") as file:
        file.attrs["sample_rate"] = rate
        for split, (sounds, labels) in (("train", train), ("validation", validation)):
            file[f"{split}/sound"] = sounds
            for name, values in labels.items():
                file[f"{split}/{name}"] = values
