"""parquet: columns with types, compressed, and an index at the end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from textattn.data.formats import AnsweredRows, Format, ReadOptions
from textattn.data.formats._bytes import RATIO, UNPACKED
from textattn.data.table import Table
from textattn.errors import InputError

# Bytes read at a time.
BUFFER = 1 << 20
# Bytes of the row groups that are read together, unless one alone has more.
BYTES_PER_PORTION = 64 << 20
# Rows of a group in the files that are written.
ROWS_PER_GROUP = 8192


class Parquet(Format):
    """Columns with types."""

    suffixes = (".parquet", ".pq")
    streams = False
    magic = b"PAR1"

    def open(self, path: Path, options: ReadOptions) -> Table:
        """Columns keep their types; the Hub's label names are read from the metadata."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        from textattn.data.formats._arrow import open_table

        try:
            schema = pq.read_schema(path)
        except pa.ArrowException as error:
            raise InputError(f"{path}: not a parquet file ({error})") from None
        return open_table(path, schema, _read, lambda: int(pq.read_metadata(path).num_rows))

    def write(self, rows: AnsweredRows, file: BinaryIO) -> None:
        """A whole parquet file."""
        from textattn.data.formats._arrow import to_batch

        batch = to_batch(rows)
        with _writer(file, batch.schema) as writer:
            writer.write_batch(batch)

    def join(self, parts: Sequence[Path], columns: Sequence[str], output: Path) -> None:
        """One file, each of whose columns has a type that holds the values of all parts."""
        import pyarrow.parquet as pq

        from textattn.data.formats._arrow import join_parts

        join_parts(parts, output, pq.read_schema, lambda part: _read(part, ROWS_PER_GROUP), _writer)

    def count(self, joined: Path, columns: Sequence[str]) -> int:
        """As the file itself says."""
        import pyarrow.parquet as pq

        return int(pq.read_metadata(joined).num_rows)


def _read(path: Path, size: int, columns: list[str] | None = None) -> Iterator[Any]:
    """Record batches of at most `size` rows; at least one, so that the types are known."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from textattn.data.formats._bounded import Bounded

    number = 0
    metadata = pq.read_metadata(path)
    _check_sizes(path, metadata)
    # Without pre_buffer a row group is read piece by piece: some files are one group of gigabytes. A value that stands
    # once in the file may stand in every row, so that it is not copied before it is known how much that is.
    repeated = _repeated_columns(metadata)
    with pq.ParquetFile(path, pre_buffer=False, buffer_size=BUFFER, read_dictionary=repeated) as file:
        schema = pq.read_schema(path)
        bounded = Bounded(path, schema if columns is None else pa.schema([schema.field(name) for name in columns]))
        for groups in _portions(metadata):
            for batch in file.iter_batches(size, row_groups=groups, columns=columns):
                for part in bounded.parts(batch):
                    yield part
                    number += part.num_rows
        if not number:
            empty = file.read_row_groups([], columns=columns)
            arrays = [column.combine_chunks() for column in empty.columns]
            yield from bounded.parts(pa.RecordBatch.from_arrays(arrays, names=empty.schema.names))


def _portions(metadata: Any) -> Iterator[list[int]]:
    """Row groups that are read together: a batch holds the different values of all groups that it spans."""
    portion: list[int] = []
    size = 0
    for group in range(metadata.num_row_groups):
        more = metadata.row_group(group).total_byte_size
        if portion and size + more > BYTES_PER_PORTION:
            yield portion
            portion, size = [], 0
        portion.append(group)
        size += more
    if portion:
        yield portion


def _repeated_columns(metadata: Any) -> list[str]:
    """The columns of bytes whose values, repeated in every row, might be more than a batch may hold."""
    found = set()
    for group in range(metadata.num_row_groups):
        row_group = metadata.row_group(group)
        for place in range(row_group.num_columns):
            column = row_group.column(place)
            # Nested columns cannot be read so.
            is_flat = metadata.schema.column(place).max_repetition_level == 0 and "." not in column.path_in_schema
            if column.physical_type == "BYTE_ARRAY" and column.has_dictionary_page and is_flat:
                found.add(column.path_in_schema)
    return sorted(found)


def _check_sizes(path: Path, metadata: Any) -> None:
    """Raises InputError for a file that unpacks to far more than its size."""
    total = sum(metadata.row_group(group).total_byte_size for group in range(metadata.num_row_groups))
    limit = max(UNPACKED, RATIO * path.stat().st_size)
    if total > limit:
        raise InputError(f"{path}: unpacks to {total / 2**30:.3g} GB, more than {RATIO} times its size")


def _writer(target: Path | BinaryIO, schema: Any) -> Any:
    import pyarrow.parquet as pq

    return pq.ParquetWriter(target, schema, compression="zstd")
