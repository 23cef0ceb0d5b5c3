"""What the chart renders, without a cluster: Helm itself runs in the tests' own process."""

import os

# Helm's Go runtime looks for garbage less often: hundreds of renders take half as long.
os.environ.setdefault("GOGC", "800")
