"""Two-time correlation data: files of any known format, read lazily and by blocks."""

from homodyne.data.dataset import Dataset
from homodyne.data.formats import ENGINES, open_lazily, recognize, write_aps_legacy, write_apsu, write_netcdf_stream
from homodyne.data.mapping import from_mapping

__all__ = [
    "ENGINES", "Dataset", "from_mapping", "open_lazily", "recognize", "write_aps_legacy", "write_apsu", "write_netcdf_stream",
]  # fmt: skip
