"""A model of the cochlea: sound → compressed envelopes of ERB-spaced bands."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from goaldriven.errors import SpecError

_EAR_Q = 9.265  # Glasberg & Moore 1990: ERB(f) = f/Q + minimum
_MIN_BANDWIDTH = 24.7  # Hz


def erb_number(hertz: Tensor) -> Tensor:
    """Number of equivalent rectangular bandwidths below a frequency.

    E(f) = Q·ln(1 + f/(24.7 Q)) with Q = 9.265, so that dE/df = 1/(24.7 + f/Q) = 1/ERB(f).
    Source: Glasberg and Moore 1990.
    """
    return _EAR_Q * torch.log1p(hertz / (_MIN_BANDWIDTH * _EAR_Q))


def erb_to_hertz(number: Tensor) -> Tensor:
    """The inverse of `erb_number`."""
    return _MIN_BANDWIDTH * _EAR_Q * torch.expm1(number / _EAR_Q)


@dataclass(frozen=True)
class Cochleagram:
    """Half-cosine filters on the ERB scale, Hilbert envelopes, power compression.

    ``n_filters`` (n) half-cosines of equal width on the ERB scale cover ``low`` to ``high``, each
    overlapping half of the next; ``sample_factor`` (s) packs them s times as densely, which gives
    s(n + 1) − 1 channels. The squared gains sum to 1 between the first and the last centre of the
    n original filters (low-pass and high-pass filters for the rest are left out, as published).
    Envelopes are averaged under Hann windows two frames long, then raised to ``compression``.
    Every frame has ``sample_rate``/``envelope_rate`` samples; the sound is taken as periodic.

    The defaults are the published ones of the word task: 203 channels at 200 frames per second.

    Attributes
    ----------
    sample_rate, envelope_rate : Hz.
    low, high : limits between which the centres lie, Hz.

    Raises
    ------
    SpecError : the limits are not 0 ≤ low < high ≤ sample_rate/2, or a count or rate is not
        positive.

    Source: McDermott and Simoncelli 2011; parameters as in pycochleagram and lr-identify
    ``audionet_model.py``. The windowed average in place of resampling is ours: it cannot ring
    below zero, where the compression is undefined.
    """

    sample_rate: int = 20_000
    envelope_rate: int = 200
    low: float = 20.0
    high: float = 8_000.0
    n_filters: int = 50
    sample_factor: int = 4
    compression: float = 0.3

    def __post_init__(self) -> None:
        if not 0 <= self.low < self.high <= self.sample_rate / 2:
            raise SpecError(
                f"cochleagram: limits must be 0 ≤ low < high ≤ {self.sample_rate / 2:g} Hz, "
                f"got low {self.low:g} and high {self.high:g}"
            )
        for name in ("envelope_rate", "n_filters", "sample_factor", "compression"):
            if getattr(self, name) <= 0:
                raise SpecError(f"cochleagram: {name} must be above 0, got {getattr(self, name)}")

    @property
    def n_channels(self) -> int:
        return self.sample_factor * (self.n_filters + 1) - 1

    def centre_frequencies(self) -> Tensor:
        """Centre of every channel, Hz, ascending: equally spaced on the ERB scale."""
        return erb_to_hertz(self._cutoffs()[1:-1])

    def filter_bank(self, n_samples: int) -> Tensor:
        """Gains (channels, ⌊n_samples/2⌋ + 1) at the frequencies of a real Fourier transform.

        gain_k(f) = cos(π/2 · (E(f) − E_k)/(s·Δ)) / √s while |E(f) − E_k| < s·Δ, else 0, with Δ the
        spacing of the centres E_k. The first and the last s − 1 reach beyond ``low`` and ``high``.
        """
        cutoffs = self._cutoffs()
        hertz = torch.arange(n_samples // 2 + 1, dtype=torch.float64) * self.sample_rate / n_samples
        half_width = self.sample_factor * (cutoffs[1] - cutoffs[0])
        offset = (erb_number(hertz)[None, :] - cutoffs[1:-1, None]) / half_width
        gain = torch.cos(0.5 * math.pi * offset) / math.sqrt(self.sample_factor)
        return torch.where(offset.abs() < 1, gain, 0.0)

    def _cutoffs(self) -> Tensor:
        """ERB numbers of the limits and, between them, of the centres."""
        low, high = erb_number(torch.tensor([self.low, self.high], dtype=torch.float64)).tolist()
        return torch.linspace(low, high, self.n_channels + 2, dtype=torch.float64)

    def envelopes(self, sound: Tensor) -> Tensor:
        """Hilbert envelope of every band, sampled several times per frame.

        The envelope |a(t)| of a band with analytic signal a does not change when the band's
        spectrum is moved down to 0, and a short inverse transform then gives a's exact samples at
        the few instants needed.

        Parameters
        ----------
        sound : (…, n_samples), a whole number of frames.

        Returns
        -------
        (…, channels, frames·m), in the units of ``sound``, at times (i + ½)·duration/(frames·m).

        Raises
        ------
        SpecError : ``n_samples`` is not a whole number of frames.
        """
        n_samples = sound.shape[-1]
        n_times = self._times_per_frame(n_samples) * self.n_frames(n_samples)
        bins, gains = _passbands(self, n_samples)
        # Half a step later than the inverse transform's times, so that frames are sampled evenly.
        half_step = torch.exp(1j * math.pi / n_times * torch.arange(gains.shape[1]).double())
        spectrum = torch.fft.rfft(sound)[..., bins.to(sound.device)]
        spectrum *= (2 * n_times / n_samples * gains * half_step).to(spectrum)
        analytic = torch.fft.ifft(spectrum, n=n_times)
        # Several times as fast as abs(), which guards against overflow.
        return torch.addcmul(analytic.real.square(), analytic.imag, analytic.imag).sqrt_()

    def __call__(self, sound: Tensor) -> Tensor:
        """Sound (…, n_samples) → cochleagram (…, channels, frames), low frequencies first.

        Raises
        ------
        SpecError : ``n_samples`` is not a whole number of frames.
        """
        envelopes = self.envelopes(sound)
        n_frames = self.n_frames(sound.shape[-1])
        windows = frame_windows(n_frames, envelopes.shape[-1] // n_frames).to(envelopes)
        return (envelopes @ windows).pow(self.compression)

    def n_frames(self, n_samples: int) -> int:
        """Frames of a sound of so many samples.

        Raises
        ------
        SpecError : ``n_samples`` is not a whole number of frames.
        """
        frames = n_samples * self.envelope_rate
        if frames % self.sample_rate or not frames:
            raise SpecError(
                "cochleagram: a sound must last a whole number of frames of "
                f"{self.sample_rate / self.envelope_rate:g} samples, got {n_samples} samples"
            )
        return frames // self.sample_rate

    def _times_per_frame(self, n_samples: int) -> int:
        """A power of two that samples the widest band without overlap of its spectrum."""
        width = _passbands(self, n_samples)[0].shape[1]
        return 2 ** max(1, math.ceil(math.log2(width / self.n_frames(n_samples))))


@lru_cache(maxsize=8)
def _passbands(cochleagram: Cochleagram, n_samples: int) -> tuple[Tensor, Tensor]:
    """Per channel, the frequencies it passes and its gain there: (channels, widest) each.

    Narrower bands are filled up with frequencies of gain 0. The gain is halved at frequency 0 and
    at the highest of an even number of samples, which have no negative twin to be left out.
    """
    bank = cochleagram.filter_bank(n_samples)
    passed = bank > 0
    widths = passed.sum(1, keepdim=True)
    place = torch.arange(max(1, int(widths.max())))  # a band may be empty in a short sound
    bins = (passed.long().argmax(1, keepdim=True) + place).clamp(max=bank.shape[1] - 1)
    alone = (bins == 0) | (2 * bins == n_samples)
    return bins, torch.gather(bank, 1, bins) * (place < widths) * torch.where(alone, 0.5, 1.0)


def frame_windows(n_frames: int, per_frame: int) -> Tensor:
    """Hann windows (n_frames·per_frame, n_frames), each two frames long and of sum 1.

    Frame k covers the times from k to k + 1 frames and half a frame more on both sides; what
    reaches beyond the sound is reflected at its ends. Every instant has the same total weight.
    """
    length = 2 * per_frame
    phase = (torch.arange(length, dtype=torch.float64) + 0.5) / length
    hann = torch.sin(math.pi * phase).square() / per_frame
    n_times = n_frames * per_frame
    frame = torch.arange(n_frames)[:, None]
    times = frame * per_frame - per_frame // 2 + torch.arange(length)[None, :]
    times = torch.where(times < 0, -1 - times, times)
    times = torch.where(times >= n_times, 2 * n_times - 1 - times, times)
    windows = torch.zeros(n_frames, n_times, dtype=torch.float64)
    return windows.scatter_add_(1, times, hann.expand(n_frames, length).contiguous()).T
