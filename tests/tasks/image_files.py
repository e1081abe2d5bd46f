"""Small image data sets in the formats that users have, made of scikit-learn's digits."""

import gzip
import io
import struct
import tarfile

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


def photographs(n, first):
    """``n`` encoded images of ten classes, by class: (bytes, label), of sizes and kinds that vary.

    JPEG in colour, grey and CMYK, and PNG, from 18 to 40 pixels a side.
    """
    gray, labels = upscaled(n, first, 8)
    made = []
    for i in np.argsort(labels, kind="stable"):
        size = (18 + 7 * i % 23, 18 + 5 * i % 19)  # width, height
        image = Image.fromarray(colour(gray[i])).resize(size)
        if i % 10 == 3:
            image = image.convert("L")
        if i % 10 == 7:
            image = image.convert("CMYK")
        stream = io.BytesIO()
        image.save(stream, "PNG" if i % 10 == 5 else "JPEG", quality=90)
        made.append((stream.getvalue(), int(labels[i])))
    return made


def suffix_of(content):
    return ".png" if content.startswith(b"\x89PNG") else ".JPEG"


def write_class_folders(folder, images):
    for i, (content, label) in enumerate(images):
        path = folder / f"n{label:08d}" / f"{i:05d}{suffix_of(content)}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def write_encoded_parquet(path, images):
    cells = [{"bytes": content, "path": f"{i}.jpg"} for i, (content, _) in enumerate(images)]
    labels = pa.array([label for _, label in images], pa.int64())
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"image": cells, "label": labels}), path)


def add_member(archive, name, content):
    info = tarfile.TarInfo(name)
    info.size = len(content)
    archive.addfile(info, io.BytesIO(content))


def write_shards(folder, prefix, images, per_shard=25):
    """Image and label side by side under one key, so many to a file."""
    folder.mkdir(parents=True, exist_ok=True)
    for shard, start in enumerate(range(0, len(images), per_shard)):
        with tarfile.open(folder / f"{prefix}-{shard:04d}.tar", "w") as archive:
            for i, (content, label) in enumerate(images[start : start + per_shard], start):
                suffix = ".png" if suffix_of(content) == ".png" else ".jpg"
                add_member(archive, f"{i:06d}{suffix}", content)
                add_member(archive, f"{i:06d}.cls", str(label).encode())
