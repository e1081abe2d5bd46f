"""Small image data sets in the formats that users have, made of scikit-learn's digits."""

import gzip
import io
import struct

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from sklearn.datasets import load_digits


def upscaled(n, first, side):
    """Digits (n, side, side) as bytes, each pixel repeated, and their labels."""
    images, labels = load_digits(return_X_y=True)
    chosen = slice(first, first + n)
    index = np.arange(side) * 8 // side
    pixels = (images[chosen].reshape(-1, 8, 8) * 15)[:, index][:, :, index]
    return pixels.astype(np.uint8), labels[chosen].astype(np.uint8)


def colour(gray):
    """Three different channels."""
    return np.stack([gray, 255 - gray, gray // 2], axis=-1)


def write_png_folder(folder, pixels, labels):
    for i, (image, label) in enumerate(zip(pixels, labels, strict=True)):
        path = folder / f"class{label}"
        path.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path / f"{i:04d}.png")


def write_parquet(path, pixels, labels, image="img"):
    """As Hugging Face stores images: a column of {bytes, path} and one of integers."""

    def png(array):
        stream = io.BytesIO()
        Image.fromarray(array).save(stream, "PNG")
        return stream.getvalue()

    cells = [{"bytes": png(p), "path": f"{i}.png"} for i, p in enumerate(pixels)]
    table = pa.table({image: cells, "label": pa.array([int(x) for x in labels], pa.int64())})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)


def write_idx(path, array):
    header = bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape)
    content = header + array.astype(np.uint8).tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def write_idx_folder(folder, train, test, suffix=""):
    for prefix, (pixels, labels) in {"train": train, "t10k": test}.items():
        write_idx(folder / f"{prefix}-images-idx3-ubyte{suffix}", pixels)
        write_idx(folder / f"{prefix}-labels-idx1-ubyte{suffix}", labels)
