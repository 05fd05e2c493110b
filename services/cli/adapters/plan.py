"""Which local file becomes which object."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from services.cli.adapters import files
from services.cli.adapters.files import LocalFile
from services.cli.core.address import Address, parse
from services.cli.core.usage import WrongUsage
from shared.text import visible


def paths_of(paths: Sequence[str]) -> tuple[tuple[str, ...], Address]:
    """Split the command's words into files and target.

    Raises:
        WrongUsage: there is no file or no target.

    """
    if len(paths) < 2:  # noqa: PLR2004 - a file and a target
        raise WrongUsage("put: give at least one file and a target; write penstock put FILE... s3://bucket/prefix")
    return tuple(paths[:-1]), parse(paths[-1])


@dataclass(frozen=True, slots=True)
class Plan:
    """Which file becomes which object."""

    sources: tuple[str, ...]
    target: Address
    as_key: bool = False

    def measure(self) -> tuple[int, int]:
        """Return how many files and bytes there are.

        Raises:
            WrongUsage: two files would become one object, or there are none.

        """
        count = size = 0
        taken: set[str] = set()
        for file in files.find(self.sources):
            if file.name in taken:
                both = visible(str(self.target.below(file.name)))
                raise WrongUsage(f"put: two files would both become {both}; put them one folder at a time")
            count, size = count + 1, size + file.size
            if len(self.sources) > 1:
                taken.add(file.name)
        if not count:
            raise WrongUsage("put: there are no files in it; nothing was stored")
        if self.as_key and (count > 1 or not self.target.key):
            raise WrongUsage("put: --as-key is for one file and a whole key; leave it out for a prefix")
        return count, size

    def words(self) -> list[str]:
        """Return what names this upload, from whatever folder it is given again."""
        return [*(str(Path(one).absolute()) for one in self.sources), str(self.target), str(self.as_key)]

    def pairs(self) -> Iterator[tuple[LocalFile, Address]]:
        """Yield each file with its object."""
        for file in files.find(self.sources):
            yield file, self.target if self.as_key else self.target.below(file.name)
