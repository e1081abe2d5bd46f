"""Recognising spoken digits among other voices."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from zipfile import BadZipFile

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from goaldriven.errors import DataError
from goaldriven.specs.tasks import SpokenDigits
from goaldriven.tasks.checks import check_data, keep
from goaldriven.tasks.cochleagram import Cochleagram
from goaldriven.tasks.supervised import SupervisedTask

N_CLASSES = 10
N_SAMPLES = 8_000  # the window: one second
N_REALISATIONS = 8  # backgrounds per training clip
COCHLEAGRAM = Cochleagram(
    sample_rate=8_000, envelope_rate=32, low=50.0, high=3_800.0, n_filters=32, sample_factor=1
)
_FIRST_TRAINING_INDEX = 5  # the source tests on recordings 0 to 4
_TRAINING_SEED, _VALIDATION_SEED = 0, 1
_CHUNK = 20  # mixtures analysed at once: their envelopes fit a processor's cache

Samples = NDArray[np.float32]


@dataclass(frozen=True)
class Clips:
    """Recordings, each with unit root mean square, and who says what."""

    sounds: tuple[Samples, ...]
    digit: NDArray[np.int64]
    speaker: NDArray[np.str_]
    number: NDArray[np.int64]  # in the data file

    def select(self, indices: NDArray[np.int64]) -> Clips:
        chosen = tuple(self.sounds[i] for i in indices)
        return Clips(chosen, self.digit[indices], self.speaker[indices], self.number[indices])


@lru_cache(maxsize=1)
def read_clips() -> tuple[Clips, Clips]:
    """Training and validation recordings: 300 each, ten digits × six speakers × five recordings.

    Raises
    ------
    DataError : the package's data file is missing or damaged.

    Source: Free Spoken Digit Dataset (Jakobovski et al.), recordings 0–9 of every speaker and
    digit; validation is the source's own test split (recordings 0–4).
    """
    file = resources.files("goaldriven") / "data" / "spoken_digits_fsdd_subset.npz"
    try:
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as data:
            arrays = {name: data[name] for name in data.files}
        bounds, samples = arrays["offsets"], arrays["samples"].astype(np.float32)
        sounds = tuple(unit_rms(samples[a:b]) for a, b in itertools.pairwise(bounds))
        digit = arrays["digit"].astype(np.int64)
        clips = Clips(sounds, digit, arrays["speaker"], np.arange(len(digit)))
        in_training = arrays["index"] >= _FIRST_TRAINING_INDEX
    except (OSError, KeyError, ValueError, BadZipFile) as error:
        raise DataError(
            f"task spoken_digits: {file} must be the package's data file, got {error!r}; "
            "reinstall goaldriven"
        ) from error
    return clips.select(np.flatnonzero(in_training)), clips.select(np.flatnonzero(~in_training))


def unit_rms(sound: Samples) -> Samples:
    """The sound over its root mean square."""
    return sound / np.sqrt(np.mean(np.square(sound), dtype=np.float64)).astype(np.float32)


def voices_of(clips: Clips) -> dict[str, Samples]:
    """Per speaker, all clips strung together in a ring: the first second comes again at the end."""
    voices = {}
    for name in np.unique(clips.speaker):
        sounds = [s for s, who in zip(clips.sounds, clips.speaker, strict=True) if who == name]
        once = np.concatenate(sounds)
        voices[str(name)] = np.concatenate([once, np.resize(once, N_SAMPLES)])
    return voices


def babble(voices: dict[str, Samples], speaker: str, rng: np.random.Generator) -> Samples:
    """Everybody but ``speaker`` talking at once: a random second of each other voice, summed."""
    total = np.zeros(N_SAMPLES, dtype=np.float32)
    for name, voice in voices.items():
        start = rng.integers(len(voice) - N_SAMPLES)
        if name != speaker:
            total += voice[start : start + N_SAMPLES]
    return total


def mixture(word: Samples, background: Samples, snr_db: float) -> Samples:
    """A word in the middle of its background.

    The word is centred in the background's window; one that is longer loses as much at both ends.
    The background lasts throughout and is scaled so that over the word's samples

        20·log10( rms(word)/rms(background) ) = ``snr_db`` ;

    the mixture as a whole is then scaled to unit root mean square.
    """
    surplus = len(word) - len(background)
    if surplus > 0:
        word = word[surplus // 2 :][: len(background)]
    start = (len(background) - len(word)) // 2
    here = slice(start, start + len(word))
    energies = [float(np.mean(np.square(s, dtype=np.float64))) for s in (word, background[here])]
    gain = np.sqrt(energies[0] / energies[1]) * 10 ** (-snr_db / 20)
    mixed = (background * gain).astype(np.float32)
    mixed[here] += word
    return unit_rms(mixed)


def _mixtures(
    clips: Clips, voices: dict[str, Samples], realisations: int, snr_db: float, seed: int
) -> Samples:
    """(clips · realisations, samples); a clip's backgrounds depend on its number and the seed."""
    sounds = np.empty((len(clips.sounds), realisations, N_SAMPLES), dtype=np.float32)
    for i, (word, speaker) in enumerate(zip(clips.sounds, clips.speaker, strict=True)):
        rng = np.random.default_rng((seed, clips.number[i]))
        for j in range(realisations):
            sounds[i, j] = mixture(word, babble(voices, str(speaker), rng), snr_db)
    return sounds.reshape(-1, N_SAMPLES)


def _cochleagrams(sounds: Samples) -> NDArray[np.float32]:
    """(n, samples) → (n, 1, channels, frames)."""
    chunks = torch.from_numpy(sounds).split(_CHUNK)
    return torch.cat([COCHLEAGRAM(chunk) for chunk in chunks]).unsqueeze(1).numpy()


def load_spoken_digits(spec: SpokenDigits, device: torch.device) -> SupervisedTask:
    """Ten-way recognition of a word among five other talkers, from its cochleagram.

    Stimuli are cochleagrams (1, 32 channels, 32 frames) of one second at 8 kHz, 50–3800 Hz, with
    the word in the middle (`mixture`) of babble: the other five speakers' training clips, strung
    together (`babble`); with ten digits in all, a background may contain the word that is asked
    for, in another voice. Values are standardised by the training cochleagrams.

    Each training clip comes in eight fixed backgrounds, one of which is drawn anew whenever the
    clip is seen (making new cochleagrams every epoch would cost more than training on them). Each
    validation clip has one, always the same. Backgrounds are made from fixed seeds.

    Babble stands in for the environmental sounds (AudioSet) of the published word task.

    Raises
    ------
    DataError : a limit exceeds the clips there are, or the data file is missing or damaged.
    """
    train, validation = read_clips()
    voices = voices_of(train)
    train = train.select(keep(spec.name, "training", train.digit, spec.train_limit))
    validation = validation.select(
        keep(spec.name, "validation", validation.digit, spec.validation_limit)
    )
    train_images = _cochleagrams(
        _mixtures(train, voices, N_REALISATIONS, spec.snr_db, _TRAINING_SEED)
    )
    validation_images = _cochleagrams(
        _mixtures(validation, voices, 1, spec.snr_db, _VALIDATION_SEED)
    )
    mean, std = train_images.mean(dtype=np.float64), train_images.std(dtype=np.float64)
    train_images = ((train_images - mean) / std).astype(np.float32)
    validation_images = ((validation_images - mean) / std).astype(np.float32)
    check_data(spec.name, "training", train_images[::N_REALISATIONS], train.digit, N_CLASSES)
    check_data(spec.name, "validation", validation_images, validation.digit, N_CLASSES)
    bank = torch.from_numpy(train_images).to(device)

    def draw(chosen: Tensor, generator: torch.Generator) -> Tensor:
        which = torch.randint(N_REALISATIONS, (len(chosen),), generator=generator)
        return bank[chosen * N_REALISATIONS + which.to(device)]

    return SupervisedTask(
        spec=spec,
        input_shape=(1, *train_images.shape[2:]),
        n_classes=N_CLASSES,
        train_labels=torch.from_numpy(train.digit).to(device),
        validation_stimuli=torch.from_numpy(validation_images).to(device),
        validation_labels=torch.from_numpy(validation.digit).to(device),
        draw=draw,
    )
