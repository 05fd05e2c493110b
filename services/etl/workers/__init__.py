"""Long-running and scheduled work: chunks of loads, large files, full loads, and output files."""

from services.etl.workers.exporter import Exporter
from services.etl.workers.file_loads import FileLoads
from services.etl.workers.full_loads import FullLoads, Schedule

__all__ = ["Exporter", "FileLoads", "FullLoads", "Schedule"]
