"""Recordings with labels, from wav files or HDF5, read one by one."""

from __future__ import annotations

import csv
import hashlib
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from goaldriven.errors import DataError
from goaldriven.tasks.checks import Split

Labels = NDArray[np.int64]
Waveform = NDArray[np.float32]

SPLITS = ("train", "validation")
_HDF5_SUFFIXES = (".h5", ".hdf5")
_TASK = "task word_speaker_noise"


class SoundStore(Protocol):
    """Recordings of one length and sample rate."""

    @property
    def labels(self) -> Labels: ...

    def samples(self, index: int) -> NDArray[Any]:
        """(n_samples,), as stored."""
        ...

    def where(self, index: int) -> str: ...

    def fingerprint(self, indices: NDArray[np.int64]) -> str:
        """Hash of what tells these recordings' contents apart: names, sizes, times of writing."""
        ...


def open_sounds(
    source: str, target: str, sample_rate: int, n_samples: int
) -> tuple[SoundStore, SoundStore]:
    """Training and validation recordings of a source; no sound is read yet.

    ``source`` is

    - a folder with ``train.csv`` and ``validation.csv``: a row for each recording, with a column
      ``file`` (a wav file, relative to the folder) and one for each label;
    - an HDF5 file with the groups ``train`` and ``validation``: ``sound`` (n, n_samples) and
      one array (n,) for each label, and the attribute ``sample_rate`` of the file.

    ``target`` names the label: ``word``, ``speaker`` or ``noise``. Labels are whole numbers from 0;
    in a CSV file also words, which are numbered alphabetically.

    Raises
    ------
    DataError : the source is missing or damaged, has another rate or length, or no such label.
    """
    path = Path(source).expanduser()
    if path.is_dir():
        return _from_folder(path, target, sample_rate, n_samples)
    if path.is_file() and path.suffix.lower() in _HDF5_SUFFIXES:
        train, validation = (
            Hdf5Sounds.open(path, split, target, sample_rate, n_samples) for split in SPLITS
        )
        return train, validation
    raise DataError(
        f"{_TASK}: source must be an existing folder of wav files or an HDF5 file "
        f"({' or '.join(_HDF5_SUFFIXES)}), got {source!r}"
    )


def waveform(stored: NDArray[Any], where: str) -> Waveform:
    """A stored recording with unit root mean square; silence stays silence.

    Raises
    ------
    DataError : it has NaN or infinite values; begins with ``where``.
    """
    values = stored.astype(np.float64)
    energy = float(np.mean(values * values))
    if not np.isfinite(energy):
        raise DataError(f"{where} must be finite, got NaN or infinity")
    return (values / np.sqrt(energy) if energy else values).astype(np.float32)


# wav files ----------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class WavFiles:
    folder: Path
    split: Split
    files: tuple[str, ...]
    labels: Labels
    sample_rate: int
    n_samples: int

    def samples(self, index: int) -> NDArray[Any]:
        from scipy.io import wavfile

        where = f"{_TASK}: {self.where(index)}"
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")  # a file that ends early is only warned of
                rate, values = wavfile.read(self.folder / self.files[index])
        except Exception as error:  # whatever the reader raises on damaged files
            raise DataError(f"{where} must be a readable wav file, got: {error}") from error
        if rate != self.sample_rate:
            raise DataError(f"{where} must be sampled at {self.sample_rate} Hz, got {rate} Hz")
        if values.shape != (self.n_samples,):
            got = f"{len(values)} samples"
            if values.ndim > 1:
                got += f" in {values.shape[1]} channels"
            raise DataError(f"{where} must have {self.n_samples} samples in one channel, got {got}")
        # Unsigned bytes are centred at 128; other formats at 0.
        return values.astype(np.int16) - 128 if values.dtype == np.uint8 else values

    def where(self, index: int) -> str:
        # The header is line 1.
        return f"{self.folder / self.files[index]} (line {index + 2} of {self.split}.csv)"

    def fingerprint(self, indices: NDArray[np.int64]) -> str:
        digest = hashlib.sha256()
        for i in indices:
            try:
                status = (self.folder / self.files[i]).stat()
            except OSError as error:
                raise DataError(
                    f"{_TASK}: {self.where(int(i))} must be a readable wav file, got: {error}"
                ) from error
            digest.update(f"{self.files[i]}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
        return digest.hexdigest()


def _from_folder(
    folder: Path, target: str, sample_rate: int, n_samples: int
) -> tuple[WavFiles, WavFiles]:
    tables = [_read_csv(folder / f"{split}.csv", target) for split in SPLITS]
    labels = _numbered([table[1] for table in tables], target)
    train, validation = (
        WavFiles(folder, split, tuple(files), numbers, sample_rate, n_samples)
        for split, (files, _), numbers in zip(SPLITS, tables, labels, strict=True)
    )
    return train, validation


def _read_csv(path: Path, target: str) -> tuple[list[str], list[str]]:
    """The columns of files and of labels."""
    try:
        with open(path, encoding="utf-8", newline="") as stream:
            rows = csv.DictReader(stream)
            columns = rows.fieldnames or []
            for name in ("file", target):
                if name not in columns:
                    raise DataError(
                        f"{_TASK}: {path} must have the columns file and {target}, "
                        f"got {', '.join(columns) or 'none'}"
                    )
            files, labels = [], []
            for row in rows:
                if not row["file"] or not row[target]:
                    raise DataError(
                        f"{_TASK}: {path}: line {rows.line_num} must have a file and a {target}"
                    )
                files.append(row["file"])
                labels.append(row[target].strip())
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{_TASK}: {path} must be a readable CSV file, got: {error}") from error
    return files, labels


def _numbered(texts: Sequence[Sequence[str]], target: str) -> list[Labels]:
    """Labels of the splits as numbers; names are numbered alphabetically, by the training's."""
    if all(text.removeprefix("-").isdecimal() for split in texts for text in split):
        return [np.array([int(text) for text in split], dtype=np.int64) for split in texts]
    names = {name: number for number, name in enumerate(sorted(set(texts[0])))}
    for split, given in zip(SPLITS, texts, strict=True):
        for line, name in enumerate(given):
            if name not in names:
                raise DataError(
                    f"{_TASK}: {split}.csv: every {target} must be in train.csv too, got {name!r} "
                    f"in line {line + 2}"
                )
    return [np.array([names[name] for name in split], dtype=np.int64) for split in texts]


# HDF5 ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Hdf5Sounds:
    path: Path
    split: Split
    sound: Any  # h5py.Dataset: rows are read when asked for
    labels: Labels

    @classmethod
    def open(
        cls, path: Path, split: Split, target: str, sample_rate: int, n_samples: int
    ) -> Hdf5Sounds:
        try:
            import h5py
        except ImportError as error:
            raise DataError(
                f"{_TASK} needs the package {error.name!r}, which is not installed: "
                "pip install 'goaldriven[audio]'"
            ) from error
        try:
            file = h5py.File(path, "r")
            rate = file.attrs.get("sample_rate")
            there = {name: f"{split}/{name}" in file for name in ("sound", target)}
        except OSError as error:
            raise DataError(
                f"{_TASK}: {path} must be a readable HDF5 file, got: {error}"
            ) from error
        for name, found in there.items():
            if not found:
                raise DataError(f"{_TASK}: {path} must hold {split}/{name}, got no such array")
        sound, labels = file[f"{split}/sound"], file[f"{split}/{target}"]
        _check_hdf5(f"{_TASK}: {path}", split, sound, labels, target, n_samples)
        if rate is None or int(rate) != sample_rate:
            got = "no sample_rate" if rate is None else f"{rate} Hz"
            raise DataError(f"{_TASK}: {path} must be sampled at {sample_rate} Hz, got {got}")
        return cls(path, split, sound, labels[:].astype(np.int64))

    def samples(self, index: int) -> NDArray[Any]:
        try:
            values: NDArray[Any] = self.sound[index]
        except Exception as error:  # whatever the library raises on damaged files
            raise DataError(
                f"{_TASK}: {self.where(index)} must be readable, got: {error}"
            ) from error
        return values

    def where(self, index: int) -> str:
        return f"row {index} of {self.split}/sound in {self.path}"

    def fingerprint(self, indices: NDArray[np.int64]) -> str:
        status = self.path.stat()
        digest = hashlib.sha256(
            f"{self.path.resolve()}\0{self.split}\0{status.st_size}\0{status.st_mtime_ns}".encode()
        )
        digest.update(np.ascontiguousarray(indices).tobytes())
        return digest.hexdigest()


def _check_hdf5(
    where: str, split: Split, sound: Any, labels: Any, target: str, n_samples: int
) -> None:
    if getattr(sound, "ndim", 0) != 2 or sound.dtype.kind not in "if":
        raise DataError(f"{where}: {split}/sound must be an array of numbers (n, samples)")
    if sound.shape[1] != n_samples:
        raise DataError(
            f"{where}: {split}/sound must have {n_samples} samples each, got {sound.shape[1]}"
        )
    if getattr(labels, "ndim", 0) != 1 or labels.dtype.kind not in "iu":
        raise DataError(f"{where}: {split}/{target} must be an array (n,) of whole numbers")
    if len(labels) != len(sound):
        raise DataError(
            f"{where}: {split}/{target} must have as many entries as the {len(sound)} sounds, "
            f"got {len(labels)}"
        )
