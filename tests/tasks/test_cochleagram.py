"""The cochlear model against its formulas and SciPy."""

import numpy as np
import pytest
import torch
from scipy import signal

from goaldriven.errors import SpecError
from goaldriven.tasks.cochleagram import (
    Cochleagram,
    erb_number,
    erb_to_hertz,
    frame_windows,
)
from goaldriven.tasks.spoken_digits import COCHLEAGRAM, N_SAMPLES

PUBLISHED = Cochleagram()
SETTINGS = [COCHLEAGRAM, PUBLISHED, Cochleagram(16_000, 100, 0.0, 8_000.0, 30, 2)]


def seconds(cochleagram, duration=1.0):
    return torch.arange(int(duration * cochleagram.sample_rate), dtype=torch.float64) / (
        cochleagram.sample_rate
    )


def test_published_dimensions():
    """203 channels; two seconds at 200 frames per second."""
    assert PUBLISHED.n_channels == 203
    with torch.no_grad():
        assert PUBLISHED(torch.randn(40_000)).shape == (203, 400)
    assert COCHLEAGRAM(torch.randn(5, N_SAMPLES)).shape == (5, 32, 32)


def test_erb_scale_has_glasberg_and_moores_bandwidths():
    """dE/df = 1/ERB(f) with ERB(f) = 24.7·(4.37 f/1000 + 1), by finite differences."""
    hertz = torch.logspace(1, 4, 50, dtype=torch.float64)
    step = 1e-3 * hertz
    slope = (erb_number(hertz + step) - erb_number(hertz - step)) / (2 * step)
    torch.testing.assert_close(1 / slope, 24.7 * (4.37 * hertz / 1000 + 1), rtol=1e-4, atol=0)
    torch.testing.assert_close(erb_to_hertz(erb_number(hertz)), hertz)
    assert erb_number(torch.tensor(0.0)) == 0


@pytest.mark.parametrize("cochleagram", SETTINGS)
def test_centres_are_equally_spaced_in_erbs(cochleagram):
    centres = cochleagram.centre_frequencies()
    assert len(centres) == cochleagram.n_channels
    numbers = erb_number(centres)
    spacing = numbers.diff()
    torch.testing.assert_close(spacing, spacing[:1].expand_as(spacing))
    ends = erb_number(torch.tensor([cochleagram.low, cochleagram.high], dtype=torch.float64))
    torch.testing.assert_close(numbers[0] - ends[0], spacing[0])
    torch.testing.assert_close(ends[1] - numbers[-1], spacing[0])


@pytest.mark.parametrize("cochleagram", SETTINGS)
def test_squared_gains_sum_to_one_in_the_passband(cochleagram):
    n = cochleagram.sample_rate
    hertz = np.arange(n // 2 + 1)
    total = cochleagram.filter_bank(n).square().sum(0).numpy()
    spacing = cochleagram.sample_factor  # from one original filter's centre to the next
    centres = cochleagram.centre_frequencies().numpy()
    low, high = centres[spacing - 1], centres[-spacing]
    inside = (hertz >= low) & (hertz <= high)
    np.testing.assert_allclose(total[inside], 1, atol=1e-12)
    assert (total <= 1 + 1e-12).all()


@pytest.mark.parametrize("cochleagram", SETTINGS)
def test_filters_are_whole_at_the_limits_too(cochleagram):
    """Filter by filter, between the centres of the neighbours s before and after it."""
    n, s = 4 * cochleagram.sample_rate, cochleagram.sample_factor
    numbers = erb_number(torch.linspace(0, n / 8, n // 2 + 1, dtype=torch.float64)).numpy()
    ends = [9.265 * np.log(1 + f / (24.7 * 9.265)) for f in (cochleagram.low, cochleagram.high)]
    centres, step = np.linspace(*ends, cochleagram.n_channels + 2, retstep=True)
    for centre, gain in zip(centres[1:-1], cochleagram.filter_bank(n).numpy(), strict=True):
        expected = np.zeros_like(gain)
        within = (numbers > centre - s * step) & (numbers < centre + s * step)
        expected[within] = np.cos((numbers[within] - centre) / (2 * s * step) * np.pi) / np.sqrt(s)
        np.testing.assert_allclose(gain, expected, atol=1e-9)


def test_filters_are_half_cosines_that_overlap_by_half():
    bank = COCHLEAGRAM.filter_bank(80_000).numpy()
    numbers = erb_number(torch.linspace(0, 4000, 40_001, dtype=torch.float64)).numpy()
    centres = erb_number(COCHLEAGRAM.centre_frequencies()).numpy()
    step = centres[1] - centres[0]
    for k in (0, 10, 31):
        offset = (numbers - centres[k]) / step
        expected = np.where(np.abs(offset) < 1, np.cos(np.pi / 2 * offset), 0)
        np.testing.assert_allclose(bank[k], expected, atol=1e-9)
    assert (bank[3] * bank[5]).max() == 0, "but only neighbours"


@pytest.mark.parametrize("channel", [0, 7, 20, 31])
def test_a_tone_peaks_in_its_channel(channel):
    """With envelope √2·rms in the channel centred on it, and nothing two channels away."""
    hertz = COCHLEAGRAM.centre_frequencies()[channel].round()
    tone = 3 * torch.sin(2 * torch.pi * hertz * seconds(COCHLEAGRAM) + 1)
    image = COCHLEAGRAM(tone)
    assert (image.argmax(0) == channel).all()
    np.testing.assert_allclose(image[channel], 3**0.3, rtol=2e-3)
    far = np.abs(np.arange(32) - channel) > 2
    assert image[far].max() < 1e-3


@pytest.mark.parametrize("cochleagram", SETTINGS)
def test_envelopes_are_scipys_hilbert_envelopes(cochleagram):
    """At the instants that are sampled, of noise that was filtered at 32 times the full rate.

    Also of bands that reach frequency 0, and the highest one, which at the finer rate has a twin.
    """
    n, finer = cochleagram.sample_rate // 5, 32
    if cochleagram is COCHLEAGRAM:
        n = cochleagram.sample_rate // 4
    sound = torch.randn(n, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    envelopes = cochleagram.envelopes(sound).numpy()
    bank = cochleagram.filter_bank(n).numpy()
    spectrum = bank * np.fft.rfft(sound.numpy())
    spectrum[:, -1] /= 2
    bands = np.fft.irfft(spectrum, finer * n) * finer
    times = (np.arange(envelopes.shape[1]) + 0.5) * n / envelopes.shape[1] * finer
    assert (times == times.round()).all()
    expected = np.abs(signal.hilbert(bands))[:, times.astype(int)]
    np.testing.assert_allclose(envelopes, expected, atol=1e-12)


def test_modulation_is_recovered():
    """The envelope of (1 + ½ cos 2π·4t)·carrier, in a band wide enough to pass both sidebands."""
    t = seconds(COCHLEAGRAM)
    hertz = COCHLEAGRAM.centre_frequencies()[25].round()
    modulation = 1 + 0.5 * torch.cos(2 * torch.pi * 4 * t)
    image = COCHLEAGRAM(modulation * torch.sin(2 * torch.pi * hertz * t))
    frames = (torch.arange(32) + 0.5) / 32
    expected = (1 + 0.5 * torch.cos(2 * torch.pi * 4 * frames)).numpy()
    recovered = image[25].numpy() ** (1 / 0.3)
    # A Hann window of 1/16 s passes 4 Hz at sin(x)/x/(1 − (x/π)²) with x = π/4, 0.96.
    x = np.pi / 4
    passed = 1 + 0.5 * np.sin(x) / x / (1 - (x / np.pi) ** 2) * (expected - 1) / 0.5
    np.testing.assert_allclose(recovered[1:-1], passed[1:-1], atol=5e-3)


def test_frames_average_the_full_rate_envelopes():
    """The few instants sampled suffice: the same frames from envelopes at the full rate."""
    sound = torch.randn(N_SAMPLES, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    bank = COCHLEAGRAM.filter_bank(N_SAMPLES).numpy()
    bands = np.fft.irfft(bank * np.fft.rfft(sound.numpy()), N_SAMPLES)
    windows = frame_windows(32, N_SAMPLES // 32).numpy()
    expected = (np.abs(signal.hilbert(bands)) @ windows) ** 0.3
    np.testing.assert_allclose(COCHLEAGRAM(sound).numpy(), expected, rtol=5e-3)


@pytest.mark.parametrize(("frames", "per_frame"), [(4, 2), (5, 8), (32, 32), (1, 4)])
def test_frame_windows(frames, per_frame):
    windows = frame_windows(frames, per_frame)
    assert windows.shape == (frames * per_frame, frames)
    torch.testing.assert_close(windows.sum(0), torch.ones(frames, dtype=torch.float64))
    even = torch.full((frames * per_frame,), 1 / per_frame, dtype=torch.float64)
    torch.testing.assert_close(windows.sum(1), even)
    if frames > 2:  # an inner frame is a Hann window about its middle
        inside = windows[per_frame // 2 : per_frame // 2 + 2 * per_frame, 1]
        phase = (np.arange(2 * per_frame) + 0.5) / (2 * per_frame)
        np.testing.assert_allclose(inside, np.sin(np.pi * phase) ** 2 / per_frame, atol=1e-15)


@pytest.mark.parametrize("gain", [1e-3, 10.0])
def test_compression(gain):
    sound = torch.randn(N_SAMPLES, dtype=torch.float64)
    torch.testing.assert_close(COCHLEAGRAM(gain * sound), gain**0.3 * COCHLEAGRAM(sound))


def test_batches_and_precision():
    sounds = torch.randn(2, 3, N_SAMPLES)
    images = COCHLEAGRAM(sounds)
    assert images.dtype == torch.float32
    assert images.min() >= 0
    torch.testing.assert_close(images[1, 2], COCHLEAGRAM(sounds[1, 2]))
    assert (COCHLEAGRAM(torch.zeros(N_SAMPLES)) == 0).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"high": 11_000.0}, "limits must be 0 ≤ low < high ≤ 10000 Hz, got low 20 and high 11000"),
        ({"low": 9_000.0}, "limits must be 0 ≤ low < high ≤ 10000 Hz, got low 9000 and high 8000"),
        ({"n_filters": 0}, "n_filters must be above 0, got 0"),
        ({"compression": -0.3}, "compression must be above 0, got -0.3"),
    ],
)
def test_impossible_settings(settings, message):
    with pytest.raises(SpecError) as caught:
        Cochleagram(**settings)
    assert str(caught.value) == f"cochleagram: {message}"


@pytest.mark.parametrize("n", [0, 8001, 100])
def test_sounds_must_be_whole_frames(n):
    with pytest.raises(SpecError, match=rf"whole number of frames of 250 samples, got {n} samples"):
        COCHLEAGRAM(torch.zeros(n))
