"""What etl does at length or by the clock: slices of loads and large files, full loads, and the files of tables."""

from services.etl.workers.exporter import Exporter
from services.etl.workers.file_loads import FileLoads
from services.etl.workers.full_loads import FullLoads, Schedule

__all__ = ["Exporter", "FileLoads", "FullLoads", "Schedule"]
