"""Features on disk, by content: Parquet shards that other programs read, shared by any number of runs.

```
STORE/
    images-3f2a.../           one folder for each way to compute: weights, config, processor, dtype, releases
        _subject.json         what the folder's name is a digest of
        01791826....parquet   key, id, path, embedding
    texts-91ab.../
        _subject.json
        01791826....parquet   key, text, embedding
```

A shard is written beside its place and renamed, and never changed. Names are unique, so runs need no lock: readers take
the union, and of two rows with one key the one in the first shard by name. A shard that is damaged is renamed, and what
it held is computed again. Embeddings are the features as the model gave them, in float32, before normalisation.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clip_eval.dataset.key_index import KEY_BYTES, KeyIndex
from clip_eval.embedding.identity import described, identity_of
from clip_eval.errors import OutputError
from clip_eval.files.read_write import replacing, writable_directory, write_json
from clip_eval.files.untrusted import opened
from clip_eval.progress import say
from clip_eval.subject.runtime import Runtime

__all__ = ["Collection", "open_store"]

_SUBJECT = "_subject.json"  # readers of a folder of Parquet pass over names that begin so
_SHARD_ROWS = 16_384
_SHARD_S = 20.0  # a run that is killed loses no more work than this, and the batches on their way
_LEFT_BEHIND_S = 3600.0
_SCHEMA_VERSION = 1


def open_store(store: Path, runtime: Runtime) -> tuple[Collection, Collection]:
    """Open the images and the texts of one subject in a store, which is made if it is missing.

    Args:
        store: its directory.
        runtime: the subject; its weights are read once, and the model is not loaded.

    Raises:
        OutputError: the directory cannot be read or written.
    """
    descriptions = described(runtime)
    writable_directory(store)
    kinds = ("images", "texts")
    images, texts = (
        Collection(store / f"{kind}-{identity_of(descriptions[kind])}", descriptions[kind]) for kind in kinds
    )
    return images, texts


class Collection:
    """The features of one subject for one kind of content, in a folder of shards. Sixteen bytes a row are in memory.

    Args:
        folder: made if it is missing.
        description: what the features depend on, for people.
    """

    def __init__(self, folder: Path, description: Mapping[str, object]) -> None:
        self.folder = folder
        self._index = KeyIndex()
        self._keys: list[bytes] = []
        self._names: dict[str, list[str]] = {}
        self._features: list[NDArray[np.float32]] = []
        self._flushed = time.monotonic()
        if not (folder / _SUBJECT).is_file():
            write_json(folder / _SUBJECT, {"schema_version": _SCHEMA_VERSION, **description})
        self._sweep()
        for table in self._tables():
            self._index.add(_keys_of(table))

    def __contains__(self, key: bytes) -> bool:
        return key in self._index

    def __len__(self) -> int:
        return len(self._index)

    def add(self, keys: Sequence[bytes], names: Mapping[str, Sequence[str]], features: NDArray[np.float32]) -> None:
        """Keep the features, (keys, projection), for the next shard."""
        self._keys += keys
        for column, values in names.items():
            self._names.setdefault(column, []).extend(values)
        self._features.append(features)
        self._index.add(keys)

    def settle(self) -> None:
        """Write a shard if there is enough for one, or the last one was written some time ago.

        Raises:
            OutputError: it cannot be written.
        """
        if len(self._keys) >= _SHARD_ROWS or time.monotonic() - self._flushed >= _SHARD_S:
            self.flush()

    def flush(self) -> None:
        """Write what is not written yet as a shard.

        Raises:
            OutputError: it cannot be written.
        """
        if self._keys:
            _write(self.folder / f"{time.time_ns():020d}-{secrets.token_hex(4)}.parquet", self._table())
            self._keys, self._names, self._features = [], {}, []
        self._flushed = time.monotonic()

    def read(self, keys: Sequence[bytes]) -> NDArray[np.float32]:
        """Return the features of these keys, (keys, projection).

        Raises:
            OutputError: one of them is no longer there, since its shard was damaged or removed after this was opened.
        """
        self.flush()
        wanted: dict[bytes, list[int]] = {}
        for place, key in enumerate(keys):
            wanted.setdefault(key, []).append(place)
        found: NDArray[np.float32] | None = None
        for table in self._tables():
            features = _features_of(table)
            if found is None:
                found = np.empty((len(keys), features.shape[1]), dtype=np.float32)  # (keys, projection)
            for row, key in enumerate(_keys_of(table)):
                for place in wanted.pop(key, ()):
                    found[place] = features[row]
        if wanted or found is None:
            what = f"{len(wanted)} embeddings that were there are gone"
            raise OutputError(what, where=self.folder, fix="Run again: they are computed anew")
        return found

    def _table(self) -> Any:
        import pyarrow as pa

        features = np.concatenate(self._features)  # (rows, projection)
        values = pa.FixedSizeListArray.from_arrays(pa.array(features.reshape(-1)), features.shape[1])
        names = {column: [_printable(text) for text in texts] for column, texts in self._names.items()}
        return pa.table({"key": pa.array(self._keys, pa.binary(KEY_BYTES)), **names, "embedding": values})

    def _tables(self) -> Iterator[Any]:
        """The shards in the order of their names; damaged ones are renamed and told."""
        for shard in sorted(self.folder.glob("*.parquet")):
            table = _read(shard)
            if table is not None:
                yield table

    def _sweep(self) -> None:
        """Remove what runs that were killed while they wrote a shard have left."""
        for left in self.folder.glob(".*.tmp"):
            with contextlib.suppress(FileNotFoundError):  # its run has just renamed it
                if time.time() - left.stat().st_mtime > _LEFT_BEHIND_S:
                    left.unlink()


def _write(file: Path, table: Any) -> None:
    import pyarrow.parquet as pq

    with replacing(file) as handle:
        pq.write_table(
            table, handle, use_dictionary=False, compression="zstd", write_page_checksum=True, store_schema=True
        )


def _read(shard: Path) -> Any:
    """The whole table with its checksums compared; None where it is gone, or damaged and set aside."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with opened(shard) as file:
            table = pq.ParquetFile(file, page_checksum_verification=True).read()  # read_table would import pandas
        if not {"key", "embedding"} <= set(table.column_names) or not len(table):
            raise pa.ArrowInvalid("it has other columns")
    except FileNotFoundError:
        return None
    except (OSError, pa.ArrowException) as problem:
        if isinstance(problem, OSError) and problem.errno is not None:
            raise OutputError(f"a shard cannot be read ({problem.strerror})", where=shard) from problem
        aside = shard.with_name(f"_{shard.name}.damaged")
        shard.replace(aside)
        say(f"{shard} is damaged: it is now {aside.name}, and what it held is computed again")
        return None
    return table


def _keys_of(table: Any) -> list[bytes]:
    keys: list[bytes] = table.column("key").to_pylist()
    return keys


def _features_of(table: Any) -> NDArray[np.float32]:
    column = table.column("embedding").combine_chunks()
    width = column.type.list_size
    features: NDArray[np.float32] = column.flatten().to_numpy(zero_copy_only=False).reshape(-1, width)  # (rows, width)
    return features


def _printable(text: str) -> str:
    return text.encode(errors="backslashreplace").decode()
