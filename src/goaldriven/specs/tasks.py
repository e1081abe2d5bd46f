"""Tasks as data; `goaldriven.tasks` loads them."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    BeforeValidator,
    Field,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from goaldriven.specs.base import NamedSpec, Spec, name_only


class _Task(NamedSpec):
    """``train_limit`` and ``validation_limit`` keep the first so many stimuli, in a fixed order."""

    available_train: ClassVar[int | None] = None  # known without loading, for embedded data

    train_limit: Annotated[int, Field(ge=2)] | None = None
    validation_limit: Annotated[int, Field(ge=2)] | None = None


class Digits(_Task):
    """scikit-learn's 8×8 handwritten digits, ten-way; fixed stratified 75/25 split."""

    available_train: ClassVar[int] = 1347

    name: Literal["digits"] = "digits"


class DigitsSimCLR(_Task):
    """The digits with the SimCLR objective: two augmented views, NT-Xent, two head layers.

    ``temperature`` τ: the published runs' value is lost; 0.1 is the official recipe's.
    ``projection`` is the width of the last head layer.
    """

    available_train: ClassVar[int] = 1347

    name: Literal["digits_simclr"] = "digits_simclr"
    temperature: PositiveFloat = 0.1
    projection: PositiveInt = 128


class DigitsAutoencoder(_Task):
    """Reconstruction of the digits through a bottleneck; mean squared error.

    ``bottleneck``: units that the reconstruction is made from.
    """

    available_train: ClassVar[int] = 1347

    name: Literal["digits_autoencoder"] = "digits_autoencoder"
    bottleneck: PositiveInt = 2


class SpokenDigits(_Task):
    """Free Spoken Digit subset as cochleagrams in background noise, ten-way word recognition.

    ``snr_db``: signal-to-noise ratio of the mixture in dB.
    """

    available_train: ClassVar[int] = 300

    name: Literal["spoken_digits"] = "spoken_digits"
    snr_db: float = 10.0


class Cifar10(_Task):
    """CIFAR-10 from Hugging Face ``datasets`` or a local folder (images or parquet)."""

    name: Literal["cifar10"] = "cifar10"
    source: str = "uoft-cs/cifar10"


class FashionMNIST(_Task):
    """Fashion-MNIST from a folder of IDX files or Hugging Face ``datasets``."""

    name: Literal["fashion_mnist"] = "fashion_mnist"
    source: str = "zalando-datasets/fashion_mnist"


IMAGE_SIZES = {"resnet": 224, "inception": 299}
"""The published size of the images, in pixels, for each preprocessing."""


class ImageNet(_Task):
    """ImageNet, 1000-way: from Hugging Face, class folders, parquet files or webdataset shards.

    ``preprocessing``: ``resnet`` (published for AlexNet and the v1 networks) or ``inception`` (the
    v2 networks). ``image_size``: pixels, 224 or 299 unless given. Images are read as they are
    needed, never held in memory.
    """

    name: Literal["imagenet"] = "imagenet"
    source: str = "ILSVRC/imagenet-1k"
    preprocessing: Literal["resnet", "inception"] = "resnet"
    image_size: PositiveInt = IMAGE_SIZES["resnet"]
    n_classes: Annotated[int, Field(ge=2)] = 1000

    @model_validator(mode="before")
    @classmethod
    def _published_size(cls, given: Any) -> Any:
        """So that leaving the size out and giving the published one are the same task."""
        if isinstance(given, dict) and "image_size" not in given:
            size = IMAGE_SIZES.get(str(given.get("preprocessing", "resnet")))
            return given if size is None else given | {"image_size": size}
        return given


class ImageNetSimCLR(_Task):
    """ImageNet with the SimCLR objective: two augmented views, NT-Xent, two head layers.

    ``strength`` scales the colour distortion; ``temperature`` τ and ``projection`` as in
    `DigitsSimCLR`. ``across_ranks``: views are told apart from those of all processes that train
    together (as published, only from those of their own). ``orders``: the loss is the mean over
    both orders of all pairs (``averaged``) or, as in the code of the published study, the sum of
    the two orders' means (``added``), which is twice that. ``readout_limit``: training images that
    the linear readout, the metric, is fitted on.
    """

    name: Literal["imagenet_simclr"] = "imagenet_simclr"
    source: str = "ILSVRC/imagenet-1k"
    image_size: PositiveInt = 224
    n_classes: Annotated[int, Field(ge=2)] = 1000
    strength: NonNegativeFloat = 1.0
    temperature: PositiveFloat = 0.1
    projection: PositiveInt = 128
    across_ranks: bool = False
    orders: Literal["averaged", "added"] = "averaged"
    readout_limit: Annotated[int, Field(ge=2)] = 50_000


class CochleagramSettings(Spec):
    """The front end of the word task; the defaults are the published ones, 203 × 400 for 2 s.

    Frequencies and rates in Hz, ``seconds`` the length of every sound; ``n_filters`` and
    ``sample_factor`` s give s(n + 1) − 1 channels.
    """

    sample_rate: PositiveInt = 20_000
    envelope_rate: PositiveInt = 200
    low: NonNegativeFloat = 20.0
    high: PositiveFloat = 8_000.0
    n_filters: PositiveInt = 50
    sample_factor: PositiveInt = 4
    compression: PositiveFloat = 0.3
    seconds: PositiveFloat = 2.0


class WordSpeakerNoise(_Task):
    """Words, speakers and noises in recordings, from wav files or HDF5; 794 words as published.

    ``target``: which of the three labels is asked for. ``n_classes``: 793 words and the null class
    unless given; null in a file: as many as there are labels. ``cached``: cochleagrams are made
    once and kept on disk, in place of being made anew whenever they are needed.
    """

    name: Literal["word_speaker_noise"] = "word_speaker_noise"
    source: str = "word_speaker_noise"
    target: Literal["word", "speaker", "noise"] = "word"
    n_classes: Annotated[int, Field(ge=2)] | None = 794
    cochleagram: CochleagramSettings = CochleagramSettings()
    cached: bool = False


TaskSpec = Annotated[
    Annotated[
        Digits
        | DigitsSimCLR
        | DigitsAutoencoder
        | SpokenDigits
        | Cifar10
        | FashionMNIST
        | ImageNet
        | ImageNetSimCLR
        | WordSpeakerNoise,
        Field(discriminator="name"),
    ],
    BeforeValidator(name_only),
]

TASKS: dict[str, type[_Task]] = {
    "digits": Digits,
    "digits_simclr": DigitsSimCLR,
    "digits_autoencoder": DigitsAutoencoder,
    "spoken_digits": SpokenDigits,
    "cifar10": Cifar10,
    "fashion_mnist": FashionMNIST,
    "imagenet": ImageNet,
    "imagenet_simclr": ImageNetSimCLR,
    "word_speaker_noise": WordSpeakerNoise,
}
