"""Label tables as they come: plain lines, BIDS `dseg.tsv`, CSV, FreeSurfer colour tables."""

from __future__ import annotations

from pathlib import Path

from pipeline.errors import AnatomyError


def read_table(text: str) -> dict[int, str]:
    """Read a label table.

    Lines are `index name [anything]`, parted by tabs, commas or blanks. Where a first line names the columns
    (BIDS: `index`, `name`), they are found by name. Lines that do not begin with a number, such as comments
    of a FreeSurfer colour table, are passed over.
    """
    lines = [line for line in text.lstrip("\ufeff").splitlines() if line.strip()]
    if not lines:
        return {}
    mark = next((m for m in ("\t", ",") if m in lines[0] and "index" in lines[0].lower()), None)
    header = [part.strip().lower() for part in lines[0].split(mark)] if mark else []
    index_at = header.index("index") if "index" in header else 0
    name_at = header.index("name") if "name" in header else 1
    table: dict[int, str] = {}
    for line in lines[1:] if header else lines:
        parts = [part.strip() for part in line.split(mark)]
        if len(parts) > max(index_at, name_at) and parts[index_at].isdigit():
            table[int(parts[index_at])] = parts[name_at]
    return table


def table_of(image: Path, table: Path | None = None) -> dict[int, str]:
    """Find and read the table of a label image.

    Parameters
    ----------
    image : Path
        `…dseg.nii.gz` goes with `…dseg.tsv`; any other name likewise with `.tsv`, `.csv`, `.txt` or `.lut`.
    table : Path, optional
        The table itself.

    Raises
    ------
    pipeline.errors.AnatomyError
        If there is none, or no line of it is `index name`.
    """
    stem = image.name.removesuffix(".gz").removesuffix(".nii")
    beside = [image.with_name(stem + end) for end in (".tsv", ".csv", ".txt", ".lut")]
    path = table or next((p for p in beside if p.is_file()), None)
    if path is None or not path.is_file():
        raise AnatomyError(
            f"{image.name}: no label table", f"put {stem}.tsv beside it with the columns index and name"
        )
    try:
        found = read_table(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else error  # without its folders
        raise AnatomyError(f"{path.name}: cannot be read ({why})", "save it as UTF-8 text") from error
    if not found:
        raise AnatomyError(f"{path.name}: no line says index and name", "use the columns index and name")
    return found
