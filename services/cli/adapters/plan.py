"""Mapping of local files to objects."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from services.cli.adapters import files
from services.cli.adapters.files import LocalFile
from services.cli.core.address import Address, parse
from services.cli.core.usage import UsageError
from shared.text import visible


def split_paths(paths: Sequence[str]) -> tuple[tuple[str, ...], Address]:
    """Split the arguments into sources and target.

    Raises:
        UsageError: a source or the target is missing.

    """
    if len(paths) < 2:  # noqa: PLR2004 - a file and a target
        raise UsageError("put: a file or the target is missing: write penstock put FILE... s3://bucket/prefix")
    return tuple(paths[:-1]), parse(paths[-1])


@dataclass(frozen=True, slots=True)
class UploadPlan:
    """Sources, the target, and whether the target is the whole key of one file."""

    sources: tuple[str, ...]
    target: Address
    as_key: bool = False

    def measure(self) -> tuple[int, int]:
        """Return the number of files and bytes.

        Raises:
            UsageError: there are no files, or two files have the same object.

        """
        count = size = 0
        taken: set[str] = set()
        for file in files.find(self.sources):
            if file.name in taken:
                both = visible(str(self.target.join(file.name)))
                raise UsageError(f"put: two files would both become {both}: store one folder at a time")
            count, size = count + 1, size + file.size
            if len(self.sources) > 1:
                taken.add(file.name)
        if not count:
            raise UsageError("put: there are no files to store: check the folder")
        if self.as_key and (count > 1 or not self.target.key):
            raise UsageError("put: --as-key needs one file and a whole key: omit it for a prefix")
        return count, size

    def identity(self) -> list[str]:
        """Return the arguments that identify this upload, with absolute paths, so that any folder can resume it."""
        return [*(str(Path(one).absolute()) for one in self.sources), str(self.target), str(self.as_key)]

    def pairs(self) -> Iterator[tuple[LocalFile, Address]]:
        """Yield each file with its object's address."""
        for file in files.find(self.sources):
            yield file, self.target if self.as_key else self.target.join(file.name)
