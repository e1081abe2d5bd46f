"""Tasks as data; `goaldriven.tasks` loads them."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field, PositiveFloat, PositiveInt

from goaldriven.specs.base import NamedSpec, name_only


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


TaskSpec = Annotated[
    Annotated[
        Digits | DigitsSimCLR | DigitsAutoencoder | SpokenDigits | Cifar10 | FashionMNIST,
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
}
