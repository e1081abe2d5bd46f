"""Words, speakers and noises: recordings through a model of the cochlea."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from goaldriven.errors import DataError
from goaldriven.specs.tasks import CochleagramSettings, WordSpeakerNoise
from goaldriven.tasks.checks import Split, keep
from goaldriven.tasks.cochleagram import Cochleagram
from goaldriven.tasks.cochleagram_cache import cached_cochleagrams
from goaldriven.tasks.loader import load_batches, loader_workers
from goaldriven.tasks.sounds import Labels, SoundStore, open_sounds, waveform
from goaldriven.tasks.streamed import StreamedTask, in_order

_CHUNK = 32  # sounds analysed at once: 203 bands of each are a few megabytes


@dataclass(frozen=True, eq=False)
class Recordings:
    """Sounds as a loader reads them: (n_samples,) with unit root mean square."""

    store: SoundStore
    indices: NDArray[np.int64]
    labels: Labels
    n_samples: int

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.n_samples,)

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(np.float32)

    @property
    def n_draws(self) -> int:
        return 0

    def fill(
        self, index: int, rng: np.random.Generator | None, out: NDArray[Any]
    ) -> NDArray[np.float64] | None:
        place = int(self.indices[index])
        where = f"task word_speaker_noise: {self.store.where(place)}"
        out[...] = waveform(self.store.samples(place), where)
        return None


@dataclass(frozen=True, eq=False)
class StoredCochleagrams:
    """Cochleagrams as a loader reads them: (channels, frames), from a memory-mapped file."""

    values: NDArray[np.float32]
    labels: Labels

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.values.shape[1:])

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(np.float32)

    @property
    def n_draws(self) -> int:
        return 0

    def fill(
        self, index: int, rng: np.random.Generator | None, out: NDArray[Any]
    ) -> NDArray[np.float64] | None:
        out[...] = self.values[index]
        return None


def load_word_speaker_noise(spec: WordSpeakerNoise, device: torch.device) -> StreamedTask:
    """Recognition of the word (or speaker, or noise) in a recording, from its cochleagram.

    Stimuli are (1, channels, frames), 203 × 400 as published, of recordings that hold the mixture
    of speech and noise already, scaled to unit root mean square. There is no augmentation. The
    cochleagram is not learned and no gradient goes through it, so that the published limit to the
    compression's gradient has nothing to act on. ``spec.source``: see `open_sounds`.

    Raises
    ------
    DataError : the source cannot be used; the message says what is wrong with it. A single
        recording that cannot be read is found, and named, when it is read.
    SpecError : the front end's settings are impossible.

    Source: the front end is lr-identify's ``audionet_model.py``; see `Cochleagram`.
    """
    settings = spec.cochleagram
    cochleagram = front_end(settings)
    n_samples = round(settings.seconds * settings.sample_rate)
    n_frames = cochleagram.n_frames(n_samples)
    stores = open_sounds(spec.source, spec.target, settings.sample_rate, n_samples)
    n_classes = _check_labels(spec, *stores)
    train = _choose("training", stores[0], spec.train_limit, n_samples)
    validation = _choose("validation", stores[1], spec.validation_limit, n_samples)

    def analyse(sounds: Tensor, draws: Tensor | None = None) -> Tensor:
        with torch.no_grad():
            return torch.cat([cochleagram(part) for part in sounds.split(_CHUNK)]).unsqueeze(1)

    def stored(recordings: Recordings) -> StoredCochleagrams:
        batches = in_order(len(recordings.labels), _CHUNK)
        loaded = load_batches(recordings, batches, device, loader_workers())
        images = (analyse(batch.values)[:, 0].cpu().numpy() for batch in loaded)
        shape = (len(recordings.labels), cochleagram.n_channels, n_frames)
        contents = recordings.store.fingerprint(recordings.indices)
        return StoredCochleagrams(
            cached_cochleagrams(settings, contents, shape, images), recordings.labels
        )

    return StreamedTask(
        spec=spec,
        input_shape=(1, cochleagram.n_channels, n_frames),
        n_classes=n_classes,
        train=stored(train) if spec.cached else train,
        validation=stored(validation) if spec.cached else validation,
        finish=_with_channel if spec.cached else analyse,
        device=device,
    )


def front_end(settings: CochleagramSettings) -> Cochleagram:
    return Cochleagram(**settings.model_dump(exclude={"seconds"}))


def _with_channel(images: Tensor, draws: Tensor | None) -> Tensor:
    return images.unsqueeze(1)


def _choose(split: Split, store: SoundStore, limit: int | None, n_samples: int) -> Recordings:
    indices = keep("word_speaker_noise", split, store.labels, limit)
    return Recordings(store, indices, store.labels[indices], n_samples)


def _check_labels(spec: WordSpeakerNoise, train: SoundStore, validation: SoundStore) -> int:
    """The number of classes; every split must have stimuli and every label must be a class."""
    where = f"task {spec.name}:"
    splits = {"training": train, "validation": validation}
    for split, store in splits.items():
        if len(store.labels) == 0:
            raise DataError(f"{where} {split} stimuli must be at least 1, got 0")
    given = spec.n_classes
    n_classes = given if given is not None else max(2, int(train.labels.max()) + 1)
    for split, store in splits.items():
        bad = np.flatnonzero((store.labels < 0) | (store.labels >= n_classes))
        if bad.size:
            raise DataError(
                f"{where} {split} labels ({spec.target}) must be whole numbers from 0 to "
                f"{n_classes - 1}, got {store.labels[bad[0]]} for {store.where(int(bad[0]))}"
            )
    return n_classes
