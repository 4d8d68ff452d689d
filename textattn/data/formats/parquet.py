"""parquet: columns with types, compressed, and an index at the end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from textattn.data.formats import AnsweredRows, Format
from textattn.data.table import Table
from textattn.errors import InputError

# Bytes read at a time.
BUFFER = 1 << 20
# Rows of a group in the files that are written.
ROWS_PER_GROUP = 8192


class Parquet(Format):
    """Columns with types."""

    suffixes = (".parquet",)
    streams = False
    magic = b"PAR1"

    def open(self, path: Path, encoding: str) -> Table:
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

    number = 0
    # Without pre_buffer a row group is read piece by piece: some files are one group of gigabytes.
    with pq.ParquetFile(path, pre_buffer=False, buffer_size=BUFFER) as file:
        for batch in file.iter_batches(size, columns=columns):
            yield batch
            number += batch.num_rows
        if not number:
            empty = file.read_row_groups([], columns=columns)
            yield pa.RecordBatch.from_arrays([c.combine_chunks() for c in empty.columns], schema=empty.schema)


def _writer(target: Path | BinaryIO, schema: Any) -> Any:
    import pyarrow.parquet as pq

    return pq.ParquetWriter(target, schema, compression="zstd")
