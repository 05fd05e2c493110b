"""What etl does at length or by the clock: slices of loads and large files, full loads, and the files of tables."""

from services.etl.workers.exporter import Exporter
from services.etl.workers.files import Files
from services.etl.workers.loads import FullLoads, Schedule

__all__ = ["Exporter", "Files", "FullLoads", "Schedule"]
