"""One thread at a time reads files: two on one handle of the NetCDF library end the process."""

import threading

READING = threading.Lock()
